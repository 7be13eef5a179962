//! Which rank of how many this process is, and where they meet: from the variables that torchrun, Slurm and `--nproc` set.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

use crate::torch::c10d::Reach;

/// Ports for Slurm's jobs: from here on, by the job's number.
const FIRST_PORT: u16 = 20000;
const PORTS: u64 = 12000; // below those that Linux gives to whoever asks for any

/// A process's place among those that train together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 0, which leads.
    pub rank: usize,
    /// W: how many ranks.
    pub size: usize,
    /// From 0, on its machine.
    pub local_rank: usize,
    /// Ranks that share this machine's processors without anybody having divided them.
    pub local_size: usize,
    /// Where the store is.
    pub address: String,
    /// See `address`.
    pub port: u16,
    /// Whether this process serves the store.
    pub serves: bool,
    /// Sets one start of the ranks apart from an earlier one that met at the same store.
    pub attempt: String,
}

impl Place {
    /// The place that the environment gives, or `None` where this process trains alone.
    ///
    /// # Errors
    /// Variables that say so only in part, or make no sense.
    pub fn from_environment() -> Result<Option<Self>> {
        Self::from(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let place = if variable("RANK").is_some() && variable("WORLD_SIZE").is_some() {
            Self::of_torchrun(variable)?
        } else if let Some(place) = Self::of_slurm(variable)? {
            place
        } else {
            return Ok(None);
        };
        let Self { rank, size, .. } = place;
        ensure!(rank < size, "this process is to be rank {rank} of {size}; ranks are counted from 0: correct RANK and WORLD_SIZE");
        Ok((size > 1).then_some(place))
    }

    fn of_torchrun(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let needed = |name: &str| variable(name).with_context(|| format!("RANK and WORLD_SIZE are set and {name} is not; set it too"));
        let rank = number("RANK", &needed("RANK")?)?;
        let local = |name: &str, otherwise: usize| variable(name).map_or(Ok(otherwise), |text| number(name, &text));
        Ok(Self {
            rank,
            size: number("WORLD_SIZE", &needed("WORLD_SIZE")?)?,
            local_rank: local("LOCAL_RANK", rank)?,
            local_size: local("LOCAL_WORLD_SIZE", 1)?.max(1),
            address: needed("MASTER_ADDR")?,
            port: number("MASTER_PORT", &needed("MASTER_PORT")?)?,
            // torchrun's agent, like `--nproc`, serves the store itself.
            serves: rank == 0 && variable("TORCHELASTIC_USE_AGENT_STORE").as_deref() != Some("True"),
            attempt: variable("TORCHELASTIC_RESTART_COUNT").unwrap_or_default(),
        })
    }

    /// Only a step of several tasks is meant: the batch step of a job of several tasks would wait for ranks that nobody starts.
    fn of_slurm(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let read = |name: &str| variable(name).map(|text| number::<usize>(name, &text)).transpose();
        let Some(size) = read("SLURM_STEP_NUM_TASKS")?.filter(|&tasks| tasks > 1) else {
            if read("SLURM_NTASKS")?.is_some_and(|tasks| tasks > 1) {
                tracing::info!(
                    "the job has several tasks, but this is no step of several: one process trains alone; `srun` starts one a task"
                );
            }
            return Ok(None);
        };
        let needed = |name: &str| variable(name).with_context(|| format!("SLURM_STEP_NUM_TASKS is {size} and {name} is not set"));
        let rank = number("SLURM_PROCID", &needed("SLURM_PROCID")?)?;
        let nodes = variable("SLURM_STEP_NODELIST").map_or_else(|| needed("SLURM_JOB_NODELIST"), Ok)?;
        // Steps of one job may train side by side.
        let number_of = |name: &str| variable(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        let port = FIRST_PORT + ((number_of("SLURM_JOB_ID") * 31 + number_of("SLURM_STEP_ID")) % PORTS) as u16;
        Ok(Some(Self {
            rank,
            size,
            local_rank: read("SLURM_LOCALID")?.unwrap_or(rank),
            // Slurm gives each task its own processors.
            local_size: 1,
            address: variable("MASTER_ADDR").unwrap_or_else(|| first_host(&nodes)),
            port: variable("MASTER_PORT").map_or(Ok(port), |text| number("MASTER_PORT", &text))?,
            serves: rank == 0,
            attempt: variable("SLURM_RESTART_COUNT").unwrap_or_default(),
        }))
    }

    /// By which address the other ranks reach this one: the loopback where all are on this machine, else the interface that
    /// `GLOO_SOCKET_IFNAME` names, as in PyTorch, else what the machine's own name stands for.
    pub(super) fn reach(&self) -> Reach {
        if self.is_loopback() {
            return Reach::Address(Ipv4Addr::LOCALHOST.to_string());
        }
        match std::env::var("GLOO_SOCKET_IFNAME") {
            Ok(name) if !name.is_empty() => Reach::Interface(name),
            _ => Reach::Default,
        }
    }

    /// Whether all ranks are on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.address == "localhost" || self.address.starts_with("127.") || self.address == "::1"
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T> {
    text.trim().parse().ok().with_context(|| format!("{name} must be a whole number, not '{text}'"))
}

/// The first name of a list as Slurm writes it: `gpu[03-05,07],login` → `gpu03`.
fn first_host(nodes: &str) -> String {
    let end = nodes.find([',', '[']).unwrap_or(nodes.len());
    let (stem, rest) = nodes.split_at(end);
    match rest.strip_prefix('[') {
        Some(list) => format!("{stem}{}", list.split(['-', ',', ']']).next().unwrap_or_default()),
        None => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> Result<Option<Place>> {
        Place::from(&|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn torchrun_says_all_of_it_or_is_told_what_is_missing() {
        let all = [("RANK", "2"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "0"), ("MASTER_ADDR", "node7"), ("MASTER_PORT", "29500")];
        let found = place(&all).unwrap().unwrap();
        assert_eq!((found.rank, found.size, found.local_rank, found.serves), (2, 4, 0, false));
        assert_eq!((&*found.address, found.port), ("node7", 29500));
        let lead = |extra: &[(&str, &str)]| place(&[&[("RANK", "0")], &all[1..], extra].concat()).unwrap().unwrap();
        assert!(lead(&[]).serves && !lead(&[("TORCHELASTIC_USE_AGENT_STORE", "True")]).serves);
        assert!(place(&all[..4]).unwrap_err().to_string().contains("MASTER_PORT"));
        assert!(place(&[&[("RANK", "4")], &all[1..]].concat()).unwrap_err().to_string().contains("rank 4 of 4"));
        assert!(place(&[&[("RANK", "x")], &all[1..]].concat()).unwrap_err().to_string().contains("'x'"));
        assert!(place(&[all[0], ("WORLD_SIZE", "1"), all[3], all[4]]).unwrap_err().to_string().contains("rank 2 of 1"));
        assert_eq!(place(&[("RANK", "0"), ("WORLD_SIZE", "1"), all[3], all[4]]).unwrap(), None);
        assert_eq!(place(&[]).unwrap(), None);
    }

    #[test]
    fn slurm_counts_only_in_a_step_of_several_tasks() {
        let job = [("SLURM_NTASKS", "4"), ("SLURM_PROCID", "3"), ("SLURM_JOB_NODELIST", "gpu[03-05,07]"), ("SLURM_JOB_ID", "123")];
        assert_eq!(place(&job).unwrap(), None);
        assert_eq!(place(&[&job[..], &[("SLURM_STEP_NUM_TASKS", "1")]].concat()).unwrap(), None);
        let found = place(&[&job[..], &[("SLURM_STEP_NUM_TASKS", "4"), ("SLURM_LOCALID", "1"), ("SLURM_STEP_ID", "2")]].concat());
        let found = found.unwrap().unwrap();
        assert_eq!((found.rank, found.size, found.local_rank, found.serves), (3, 4, 1, false));
        assert_eq!((&*found.address, found.port), ("gpu03", 20000 + 123 * 31 + 2));
    }

    #[test]
    fn the_first_of_slurms_hosts() {
        let hosts = ["node1", "node1,node2", "a[1-3]", "a[07,09]", "login,b[1-2]"].map(first_host);
        assert_eq!(hosts, ["node1", "node1", "a1", "a07", "login"]);
    }
}
