//! What is tested on real hosts, in one program: the fleets of all these suites share the machine. Each of them asks for room
//! (`lab::room`), so there may be more threads than it has room for fleets.

mod etcd;
mod faults;
mod hosts;
mod packages;
mod platforms;
mod storm;
mod systems;
mod upgrade;
