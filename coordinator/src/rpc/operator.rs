//! The operator service: what is asked is read here and given to the engine in its words. Its streams are `watch`'s.

use super::auth::operator;
use super::editions::Editions;
use super::watch;
use crate::engine::{
    About, Answer, Command, Done, Input, InventoryText, Look, MakePlan, PlanUpdate, Port, RequestError,
    TokenWish,
};
use crate::status::nodes::Wanted;
use crate::status::view::Detail;
use crate::status::{history, tokens};
use crate::store::Store;
use serde::Serialize;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::str::FromStr;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use wavegate_common::id::{Actor, NodeId, PlanId, RolloutId};
use wavegate_common::platform::Stage;
use wavegate_common::procedure;
use wavegate_common::rollout::Mode;
use wavegate_common::waves::WaveOverride;
use wavegate_proto::convert::document;
use wavegate_proto::v1;
use wavegate_proto::v1::make_plan_response::Message;
use wavegate_proto::v1::operator_service_server::OperatorService;

/// The operator service.
pub(super) struct Operators {
    port: Port,
    editions: Editions,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Operators {
    pub(super) fn new(port: Port) -> Self {
        let editions = Editions::new(port.clone());
        Self { port, editions }
    }

    /// A document made of a look at the engine. Made and written where nobody else waits for it.
    async fn told<T: Serialize>(
        &self,
        schema: &'static str,
        tell: impl FnOnce(&Look, &Store) -> Result<T, RequestError> + Send + 'static,
    ) -> Result<Response<v1::Document>, Status> {
        let told = self.port.told(move |look, store| Ok(document(schema, &tell(look, store)?)));
        Ok(Response::new(told.await??))
    }

    async fn command(&self, by: Actor, command: Command) -> Result<Response<v1::Answer>, Status> {
        let Answer { rollout, changed, text } = self.port.command(by, command).await?;
        Ok(Response::new(v1::Answer { rollout: rollout.to_string(), changed, text }))
    }

    async fn inventory(
        &self,
        by: Actor,
        inventory: Option<InventoryText>,
    ) -> Result<Response<v1::Done>, Status> {
        let done = self.port.ask(|reply| Input::SetInventory { by, inventory, reply }).await?;
        let Done { changed, text } = done;
        Ok(Response::new(v1::Done { changed, text }))
    }
}

#[tonic::async_trait]
impl OperatorService for Operators {
    type MakePlanStream = Answers<v1::MakePlanResponse>;
    type WatchStatusStream = Answers<v1::Document>;
    type ListEventsStream = Answers<v1::Document>;
    type LogsStream = Answers<v1::LogPiece>;

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let by = operator(&request)?;
        let v1::CreateTokenRequest { valid_for_s, node, uses, declared } = request.into_inner();
        let wish = TokenWish { valid_for_s, node: given::<NodeId>(&node)?, uses: uses.max(1), declared };
        let created = self.port.ask(|reply| Input::CreateToken { by, wish, reply }).await?;
        let (token, expires_at_ms) = (created.token, created.expires_at_ms);
        Ok(Response::new(v1::CreateTokenResponse { token, expires_at_ms }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        operator(&request)?;
        let now = self.port.clock().now();
        let list = self.port.read(move |store| tokens::token_list(store, now)).await?;
        Ok(Response::new(document("token_list", &list)?))
    }

    async fn get_token(
        &self,
        request: Request<v1::GetTokenRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        operator(&request)?;
        let (id, now) = (request.into_inner().id, self.port.clock().now());
        let no_such =
            format!("there is no join token {}; those there are: wavegate token list", id.escape_default());
        let token = self.port.read(move |store| tokens::token(store, &id, now)).await?;
        Ok(Response::new(document("token", &token.ok_or_else(|| Status::not_found(no_such))?)?))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let by = operator(&request)?;
        let id = request.into_inner().id;
        let Done { changed, text } = self.port.ask(|reply| Input::RevokeToken { by, id, reply }).await?;
        Ok(Response::new(v1::Done { changed, text }))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        operator(&request)?;
        let v1::ListNodesRequest { node, role, offline, trouble } = request.into_inner();
        let wanted = Wanted { node: given(&node)?, role: given(&role)?, offline, trouble };
        let told = self.port.told(move |look, _| Ok(document("node_list", &look.nodes(&wanted))));
        Ok(Response::new(told.await??))
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let by = operator(&request)?;
        let v1::RemoveNodeRequest { node, force } = request.into_inner();
        let node = name::<NodeId>(&node)?;
        let removed = self.port.ask(|reply| Input::RemoveNode { by, node, force, reply }).await?;
        let Done { changed, text } = removed;
        Ok(Response::new(v1::RemoveNodeResponse { changed, text }))
    }

    async fn set_inventory(
        &self,
        request: Request<v1::SetInventoryRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let by = operator(&request)?;
        let v1::SetInventoryRequest { text, file } = request.into_inner();
        self.inventory(by, Some(InventoryText { file, text })).await
    }

    async fn clear_inventory(
        &self,
        request: Request<v1::ClearInventoryRequest>,
    ) -> Result<Response<v1::Done>, Status> {
        let by = operator(&request)?;
        self.inventory(by, None).await
    }

    async fn get_inventory(
        &self,
        request: Request<v1::GetInventoryRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        operator(&request)?;
        let inventory = self.port.read(Store::inventory).await?;
        Ok(Response::new(document("inventory", &inventory)?))
    }

    async fn make_plan(
        &self,
        request: Request<v1::MakePlanRequest>,
    ) -> Result<Response<Self::MakePlanStream>, Status> {
        let by = operator(&request)?;
        let (updates, receive) = mpsc::unbounded_channel();
        let request = plan_request(by, request.into_inner(), updates)?;
        self.port.send(Input::MakePlan(Box::new(request))).await?;
        let stream = UnboundedReceiverStream::new(receive).map(|update| plan_update(update?));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_plan(&self, request: Request<v1::GetPlanRequest>) -> Result<Response<v1::Document>, Status> {
        operator(&request)?;
        let id = given::<PlanId>(&request.into_inner().plan)?;
        let name = id.as_ref().map_or_else(|| "plan yet".to_owned(), |id| format!("plan {id}"));
        let plan = self.port.plan(id).await?;
        let plan =
            plan.ok_or_else(|| Status::not_found(format!("there is no {name}; make one: wavegate plan")))?;
        Ok(Response::new(document("plan", &plan)?))
    }

    async fn list_plans(
        &self,
        request: Request<v1::ListPlansRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        operator(&request)?;
        Ok(Response::new(document("plan_list", &self.port.read(history::plans).await?)?))
    }

    async fn list_rollouts(
        &self,
        request: Request<v1::ListRolloutsRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        operator(&request)?;
        // Only the newest can still be open, and where it is the engine knows.
        let newest = self.port.status(None, Detail::Brief).await.ok();
        let rollouts = self.port.read(move |store| history::rollouts(store, newest.as_ref())).await?;
        Ok(Response::new(document("rollout_list", &rollouts)?))
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Result<Response<v1::Done>, Status> {
        let by = operator(&request)?;
        let plan = name::<PlanId>(&request.into_inner().plan)?;
        let Done { changed, text } = self.port.ask(|reply| Input::Approve { by, plan, reply }).await?;
        Ok(Response::new(v1::Done { changed, text }))
    }

    async fn start(&self, request: Request<v1::StartRequest>) -> Result<Response<v1::Answer>, Status> {
        let by = operator(&request)?;
        let v1::StartRequest { plan, manual, acknowledge } = request.into_inner();
        let mode = if manual { Mode::Manual } else { Mode::Auto };
        self.command(by, Command::Start { plan: given(&plan)?, mode, acknowledge }).await
    }

    async fn pause(&self, request: Request<v1::RolloutRequest>) -> Result<Response<v1::Answer>, Status> {
        let by = operator(&request)?;
        self.command(by, Command::Pause(given(&request.into_inner().rollout)?)).await
    }

    async fn resume(&self, request: Request<v1::RolloutRequest>) -> Result<Response<v1::Answer>, Status> {
        let by = operator(&request)?;
        self.command(by, Command::Resume(given(&request.into_inner().rollout)?)).await
    }

    async fn stop(&self, request: Request<v1::RolloutRequest>) -> Result<Response<v1::Answer>, Status> {
        let by = operator(&request)?;
        self.command(by, Command::Stop(given(&request.into_inner().rollout)?)).await
    }

    async fn next_wave(&self, request: Request<v1::RolloutRequest>) -> Result<Response<v1::Answer>, Status> {
        let by = operator(&request)?;
        self.command(by, Command::NextWave(given(&request.into_inner().rollout)?)).await
    }

    async fn release_wave(
        &self,
        request: Request<v1::ReleaseWaveRequest>,
    ) -> Result<Response<v1::Answer>, Status> {
        let by = operator(&request)?;
        let v1::ReleaseWaveRequest { rollout, stage, wave } = request.into_inner();
        let wave = usize::try_from(wave).ok().and_then(|wave| wave.checked_sub(1));
        let wave = wave.ok_or_else(|| Status::invalid_argument("waves are counted from 1"))?;
        let (rollout, stage) = (given(&rollout)?, name(&stage)?);
        self.command(by, Command::ReleaseWave { rollout, stage, wave }).await
    }

    async fn retry(&self, request: Request<v1::RetryRequest>) -> Result<Response<v1::Answer>, Status> {
        let by = operator(&request)?;
        let v1::RetryRequest { rollout, nodes, all_failed } = request.into_inner();
        let nodes = nodes.iter().map(|node| name::<NodeId>(node)).collect::<Result<_, _>>()?;
        self.command(by, Command::Retry { rollout: given(&rollout)?, nodes, all_failed }).await
    }

    async fn waive(&self, request: Request<v1::WaiveRequest>) -> Result<Response<v1::Answer>, Status> {
        let by = operator(&request)?;
        let v1::WaiveRequest { rollout, node, reason, for_s } = request.into_inner();
        let (rollout, node) = (given(&rollout)?, name(&node)?);
        self.command(by, Command::Waive { rollout, node, reason, for_s }).await
    }

    async fn withdraw_waiver(
        &self,
        request: Request<v1::WithdrawWaiverRequest>,
    ) -> Result<Response<v1::Answer>, Status> {
        let by = operator(&request)?;
        let v1::WithdrawWaiverRequest { rollout, node } = request.into_inner();
        let (rollout, node) = (given(&rollout)?, name(&node)?);
        self.command(by, Command::WithdrawWaiver { rollout, node }).await
    }

    async fn get_status(
        &self,
        request: Request<v1::RolloutRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        operator(&request)?;
        let (rollout, detail) = rollout_wanted(&request.into_inner())?;
        self.told("rollout_status", move |look, store| look.status(store, rollout.as_ref(), detail)).await
    }

    async fn watch_status(
        &self,
        request: Request<v1::RolloutRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        operator(&request)?;
        let (rollout, detail) = rollout_wanted(&request.into_inner())?;
        Ok(Response::new(Box::pin(self.editions.watch(rollout, detail).await?)))
    }

    async fn why(&self, request: Request<v1::WhyRequest>) -> Result<Response<v1::Document>, Status> {
        operator(&request)?;
        let v1::WhyRequest { rollout, node, stage, wave } = request.into_inner();
        let wave = usize::try_from(wave).ok().and_then(|wave| wave.checked_sub(1));
        let about = About { node: given(&node)?, stage: given(&stage)?, wave };
        let rollout = given::<RolloutId>(&rollout)?;
        self.told("waiting", move |look, store| look.why(store, rollout.as_ref(), &about)).await
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<Self::ListEventsStream>, Status> {
        operator(&request)?;
        let v1::ListEventsRequest { rollout, after_seq } = request.into_inner();
        let stream = watch::events(self.port.clone(), given(&rollout)?, after_seq).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn logs(&self, request: Request<v1::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        operator(&request)?;
        let v1::LogsRequest { rollout, node, stage, step, follow } = request.into_inner();
        let wanted = watch::Wanted {
            rollout: given(&rollout)?,
            node: name(&node)?,
            stage: given(&stage)?,
            step: given(&step)?,
            follow,
        };
        Ok(Response::new(Box::pin(watch::logs(self.port.clone(), wanted).await?)))
    }
}

fn name<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: T::Err| Status::invalid_argument(error.to_string()))
}

/// What was given; `None` for an empty text.
fn given<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { name(text).map(Some) }
}

fn rollout_wanted(request: &v1::RolloutRequest) -> Result<(Option<RolloutId>, Detail), Status> {
    let detail = if request.brief { Detail::Brief } else { Detail::Full };
    Ok((given(&request.rollout)?, detail))
}

fn wave_override(limits: v1::StageLimits) -> Result<WaveOverride, Status> {
    fn read<T: FromStr<Err: std::fmt::Display>>(text: Option<&String>) -> Result<Option<T>, Status> {
        text.map(|text| name(text)).transpose()
    }
    Ok(WaveOverride {
        canary: limits.canary,
        batches: read(limits.batches.as_ref())?,
        max_unavailable: read(limits.max_unavailable.as_ref())?,
        errors_allowed: read(limits.errors_allowed.as_ref())?,
        group_by: limits.group_by,
        soak_s: limits.soak_s,
        start: read(limits.start.as_ref())?,
    })
}

fn plan_request(
    by: Actor,
    request: v1::MakePlanRequest,
    updates: mpsc::UnboundedSender<Result<PlanUpdate, crate::engine::RequestError>>,
) -> Result<MakePlan, Status> {
    let mut waves = BTreeMap::new();
    for limits in request.limits {
        waves.insert(name::<Stage>(&limits.stage)?, wave_override(limits)?);
    }
    let (procedure_file, procedure) = if request.procedure_text.is_empty() {
        let shipped = procedure::shipped(&request.procedure);
        let (file, text) = shipped.ok_or_else(|| {
            let known = procedure::shipped_names().collect::<Vec<_>>().join(", ");
            Status::not_found(format!(
                "no procedure '{}' ships with this coordinator; it has: {known}",
                request.procedure.escape_default()
            ))
        })?;
        (file.to_owned(), text.to_owned())
    } else {
        (request.procedure_file, request.procedure_text)
    };
    let parameters = (request.parameters_file, request.parameters_text);
    let parameters = (!parameters.1.is_empty()).then_some(parameters);
    Ok(MakePlan { by, procedure, procedure_file, parameters, settings: request.settings, waves, updates })
}

fn plan_update(update: PlanUpdate) -> Result<v1::MakePlanResponse, Status> {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let message = match update {
        PlanUpdate::Progress { asked, answered, waiting_for } => Message::Progress(v1::PlanProgress {
            nodes_asked: count(asked),
            nodes_answered: count(answered),
            waiting_for: waiting_for.into_iter().map(String::from).collect(),
        }),
        PlanUpdate::Done(plan) => Message::Plan(document("plan", &*plan)?),
    };
    Ok(v1::MakePlanResponse { message: Some(message) })
}
