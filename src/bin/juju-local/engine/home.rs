//! What a unit lives on when it is not this machine itself: a machine that a driver makes, or a pod.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rustix::process::Signal;

use super::driver::Driver;
use super::model::Model;
use super::pods::{self, Pod};
use super::state::Engine;

/// A unit's home.
#[derive(Debug, Clone)]
pub enum Home {
    /// A machine that a driver makes.
    Machine(Driver),
    /// A pod, and how many seconds it may take to end.
    Pod(Box<Pod>, f64),
}

impl Home {
    /// Returns the home of a unit, if it has one.
    #[must_use]
    pub fn of(engine: &Engine, model: &Model, unit: &str) -> Option<Self> {
        if model.settings.has_pods() {
            let pod = Pod::of(&engine.paths, model, unit)?;
            return Some(Self::Pod(Box::new(pod), model.settings.grace_seconds));
        }
        Driver::of(model, unit).map(Self::Machine)
    }

    /// Makes the home, or finds it; returns its address.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn up(&self, engine: &Arc<Engine>, unit: &str) -> Result<Ipv4Addr> {
        match self {
            Self::Machine(driver) => driver.up(),
            Self::Pod(..) => pods::come_up(engine, unit),
        }
    }

    /// Starts the home anew after it was killed; returns its address.
    ///
    /// # Errors
    ///
    /// As [`Self::up`].
    pub fn reboot(&self, engine: &Arc<Engine>, unit: &str) -> Result<Ipv4Addr> {
        match self {
            Self::Machine(driver) => driver.reboot(),
            Self::Pod(..) => pods::renew(engine, unit),
        }
    }

    /// Does one of `down`, `kill`, `freeze`, `thaw`, `cut` and `heal`.
    ///
    /// # Errors
    ///
    /// When that fails or takes too long.
    pub fn tell(&self, verb: &str) -> Result<()> {
        let (pod, grace) = match self {
            Self::Machine(driver) => return driver.tell(verb),
            Self::Pod(pod, grace) => (pod, grace),
        };
        match verb {
            "down" => pods::terminate(pod, *grace),
            "kill" => pod.end(),
            "cut" => pod.plug(false),
            "heal" => pod.plug(true),
            "freeze" => {
                pod.signal(Signal::STOP);
                Ok(())
            }
            _ => {
                pod.signal(Signal::CONT);
                Ok(())
            }
        }
    }

    /// Returns program and arguments that run a command at home, in `directory`.
    #[must_use]
    pub fn wrap(
        &self,
        program: &Path,
        arguments: &[&str],
        directory: &Path,
    ) -> (PathBuf, Vec<String>) {
        match self {
            Self::Machine(driver) => driver.wrap(program, arguments),
            Self::Pod(pod, _) => pod.wrap(program, arguments, directory),
        }
    }
}
