//! What is made once: base roots, packages, and a layer for each kind of node.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use super::artifact::{self, Artifact, Inputs};
use super::command::run;
use super::manifest::Manifest;
use super::progress::say;
use super::requirements::require;
use super::spec::{Family, NodeSpec, Role, System};
use super::teardown;

/// Systems that are a family's own in another dress.
const DRESSED: [System; 2] = [System::Centos7, System::Trusty];

const LAYERS: [(Family, Role); 9] = [
    (Family::Apt, Role::Deploy),
    (Family::Apt, Role::Etcd),
    (Family::Apt, Role::Compute),
    (Family::Apt, Role::Control),
    (Family::Apt, Role::Bare),
    (Family::Rpm, Role::Etcd),
    (Family::Rpm, Role::Compute),
    (Family::Rpm, Role::Control),
    (Family::Rpm, Role::Bare),
];

/// A prepared lab: everything a fleet is booted from.
#[derive(Debug, Clone)]
pub struct Lab {
    /// The lab's directory.
    pub dir: PathBuf,
    /// What the repositories hold.
    pub manifest: Manifest,
    pub(super) packages: Artifact,
    roots: BTreeMap<Family, Artifact>,
    layers: BTreeMap<(Family, Role), Artifact>,
    pip: BTreeMap<Family, Artifact>,
    /// etcd as a proxy or gateway, over a compute's layer.
    front: Artifact,
    /// What makes a node of the family another system.
    dresses: BTreeMap<System, Artifact>,
}

/// The lab's directory: `WAVEGATE_LAB_DIR`, or `lab` in the workspace's target directory.
pub fn directory() -> Result<PathBuf> {
    let path = match std::env::var_os("WAVEGATE_LAB_DIR") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab"),
    };
    std::fs::create_dir_all(path.join("cache")).with_context(|| format!("making {}", path.display()))?;
    let path = path.canonicalize().with_context(|| format!("resolving {}", path.display()))?;
    if path.display().to_string().contains([' ', ':', ',']) {
        bail!("{}: the lab's directory can have no blank, colon or comma in its path", path.display());
    }
    Ok(path)
}

/// Where the scripts and fixtures are.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("lab")
}

/// Waits for the lab's lock; held until the file is dropped.
pub fn lock(dir: &Path) -> Result<File> {
    let lock = File::create(dir.join("lock")).context("opening the lab's lock")?;
    lock.lock().context("waiting for the lab's lock")?;
    Ok(lock)
}

impl Lab {
    /// `prepare` for a suite: none, saying so, when `WAVEGATE_NO_LAB=1` asks for the suite to be skipped.
    ///
    /// # Errors
    ///
    /// Like `prepare`: a machine that cannot run a lab fails the suite unless it was told to skip it.
    pub fn for_suite() -> Result<Option<Self>> {
        if std::env::var("WAVEGATE_NO_LAB").is_ok_and(|value| value == "1") {
            eprintln!("SKIPPED: WAVEGATE_NO_LAB=1, so no host was booted and nothing was tested");
            return Ok(None);
        }
        Self::prepare().map(Some)
    }

    /// Builds what is missing and ends what killed runs left behind. Waits while another process prepares.
    ///
    /// # Errors
    ///
    /// When this machine cannot run a lab, naming all that is missing, or when a build fails, with its output.
    pub fn prepare() -> Result<Self> {
        require()?;
        let started = Instant::now();
        let dir = directory()?;
        let _lock = lock(&dir)?;
        teardown::abandoned(&dir)?;
        let cache = dir.join("cache");
        artifact::sweep(&cache)?;
        let lab = Self::build(dir, &cache)?;
        lab.prune(&cache)?;
        say(&format!("prepared in {:.1} s: {}", started.elapsed().as_secs_f64(), lab.dir.display()));
        Ok(lab)
    }

    fn build(dir: PathBuf, cache: &Path) -> Result<Self> {
        let suite = std::env::var("WAVEGATE_LAB_SUITE").unwrap_or_else(|_| "bookworm".to_owned());
        let families = [Family::Apt, Family::Rpm];
        let roots: BTreeMap<Family, Artifact> =
            in_parallel(&families, |family| Ok((*family, root(cache, *family, &suite)?)))?
                .into_iter()
                .collect();
        let base = |family| roots.get(&family).context("no base root");
        let packages = packages(cache, &debian(cache, &suite, base(Family::Apt)?)?)?;
        let layers: BTreeMap<(Family, Role), Artifact> = in_parallel(&LAYERS, |(family, role)| {
            let name = format!("{}-{}", family.word(), role.word());
            Ok(((*family, *role), layer(cache, &name, &packages, &[base(*family)?])?))
        })?
        .into_iter()
        .collect();
        let pip = in_parallel(&families, |family| {
            let compute = layers.get(&(*family, Role::Compute)).context("no compute layer")?;
            let name = format!("{}-pip", family.word());
            Ok((*family, layer(cache, &name, &packages, &[compute, base(*family)?])?))
        })?
        .into_iter()
        .collect();
        let compute = layers.get(&(Family::Apt, Role::Compute)).context("no compute layer")?;
        let front = layer(cache, "apt-front", &packages, &[compute, base(Family::Apt)?])?;
        let dresses =
            DRESSED.into_iter().map(|system| Ok((system, dress(cache, system)?))).collect::<Result<_>>()?;
        let manifest = Manifest::read(&packages.path)?;
        Ok(Self { dir, manifest, packages, roots, layers, pip, front, dresses })
    }

    fn prune(&self, cache: &Path) -> Result<()> {
        let mut wanted: Vec<&Artifact> = vec![&self.packages];
        wanted.extend(self.roots.values().chain(self.layers.values()));
        wanted.extend(self.pip.values().chain(self.dresses.values()).chain([&self.front]));
        let debian = std::fs::read_to_string(self.packages.path.join("debian")).unwrap_or_default();
        let debian = Artifact { path: cache.join(debian) };
        wanted.push(&debian);
        artifact::prune(cache, &wanted)
    }

    /// The layers a node's overlay has below its own, topmost first.
    pub(super) fn lower(&self, node: &NodeSpec) -> Result<Vec<PathBuf>> {
        let family = node.system.family();
        let layer = self.layers.get(&(family, node.role)).with_context(|| {
            format!("{}: there is no {} node of family {}", node.name, node.role.word(), family.word())
        })?;
        let root = self.roots.get(&family).context("no base root")?;
        let pip = if node.pip { self.pip.get(&family) } else { None };
        let front = node.front.map(|_| &self.front);
        if front.is_some() && (family, node.role) != (Family::Apt, Role::Compute) {
            bail!("{}: only a compute of family apt can have an etcd proxy or gateway", node.name);
        }
        let dress = self.dresses.get(&node.system);
        Ok(dress
            .into_iter()
            .chain(front)
            .chain(pip)
            .chain([layer, root])
            .map(|artifact| artifact.path.clone())
            .collect())
    }
}

fn script(name: &str) -> PathBuf {
    sources().join("prepare").join(name)
}

fn root(cache: &Path, family: Family, suite: &str) -> Result<Artifact> {
    let inputs = Inputs::default().word(suite).path(&script("root.sh"))?.path(&script("mirror.sh"))?;
    Artifact::get(cache, &format!("root-{}", family.word()), inputs, |out| {
        run(Command::new("sh").arg(script("root.sh")).args([family.word(), suite]).arg(out)).map(|_| ())
    })
}

fn debian(cache: &Path, suite: &str, base: &Artifact) -> Result<Artifact> {
    let inputs = Inputs::default().word(&base.key()).path(&script("debian.sh"))?;
    Artifact::get(cache, "debian", inputs, |out| {
        run(Command::new("sh").arg(script("debian.sh")).arg(suite).arg(&base.path).arg(out)).map(|_| ())
    })
}

fn packages(cache: &Path, debian: &Artifact) -> Result<Artifact> {
    let inputs = Inputs::default()
        .word(&debian.key())
        .path(&sources().join("packages"))?
        .path(&sources().join("versions.env"))?
        .path(&script("packages.sh"))?
        .path(&script("index.sh"))?;
    Artifact::get(cache, "packages", inputs, |out| {
        run(Command::new("sh").arg(script("packages.sh")).arg(&debian.path).arg(out))?;
        std::fs::write(out.join("debian"), debian.key()).context("noting which Debian packages went in")
    })
}

fn layer(cache: &Path, name: &str, packages: &Artifact, lower: &[&Artifact]) -> Result<Artifact> {
    let mut inputs =
        Inputs::default().word(&packages.key()).path(&script("layer.sh"))?.path(&sources().join("node"))?;
    for below in lower {
        inputs = inputs.word(&below.key());
    }
    let (family, role) = name.split_once('-').context("a layer is named FAMILY-ROLE")?;
    Artifact::get(cache, &format!("layer-{name}"), inputs, |out| {
        let mut command = Command::new("sh");
        command.arg(script("layer.sh")).args([family, role]).arg(&packages.path).arg(out);
        run(command.args(lower.iter().map(|below| &below.path))).map(|_| ())
    })
}

fn dress(cache: &Path, system: System) -> Result<Artifact> {
    let files = sources().join("dress").join(system.word());
    let inputs = Inputs::default().path(&script("dress.sh"))?.path(&files)?;
    Artifact::get(cache, &format!("dress-{}", system.word()), inputs, |out| {
        run(Command::new("sh").arg(script("dress.sh")).arg(system.word()).arg(out)).map(|_| ())
    })
}

/// Does `work` for each item, two at a time, and returns the results in any order.
fn in_parallel<I: Sync, R: Send>(items: &[I], work: impl Fn(&I) -> Result<R> + Sync) -> Result<Vec<R>> {
    let queue = Mutex::new(items.iter());
    let done = Mutex::new(Vec::new());
    let poisoned = || anyhow!("a builder panicked");
    std::thread::scope(|scope| {
        let builder = || -> Result<()> {
            loop {
                let next = queue.lock().map_err(|_| poisoned())?.next();
                let Some(item) = next else { return Ok(()) };
                let result = work(item)?;
                done.lock().map_err(|_| poisoned())?.push(result);
            }
        };
        let builders = [scope.spawn(builder), scope.spawn(builder)];
        for builder in builders {
            builder.join().map_err(|_| poisoned())??;
        }
        anyhow::Ok(())
    })?;
    done.into_inner().map_err(|_| poisoned())
}
