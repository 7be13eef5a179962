//! Who may look: a link that works once, and the cookie that it is changed for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// Bytes of a secret; nobody guesses 256 bits.
const SECRET_BYTES: usize = 32;

/// Browsers that may look at the same time; the one that came first must ask for a new link then.
const MOST_SESSIONS: usize = 64;

/// The secrets of one running viewer.
pub(super) struct Keys {
    /// Cookies do not know ports: the name tells two viewers on one machine apart.
    cookie: String,
    state: Mutex<State>,
}

struct State {
    link: String,
    /// With the number of the link that began it.
    sessions: BTreeSet<(u64, String)>,
    links: u64,
}

/// What a link was changed for.
pub(super) struct Entry {
    /// The header's value.
    pub(super) set_cookie: String,
    /// The secret of the next link.
    pub(super) next: String,
}

impl Keys {
    /// # Errors
    /// The machine gives no random numbers.
    pub(super) fn new() -> Result<Self> {
        let cookie = format!("wsi-view-{}", &secret()?[..16]);
        Ok(Self { cookie, state: Mutex::new(State { link: secret()?, sessions: BTreeSet::new(), links: 0 }) })
    }

    /// What tells this viewer from others, for addresses of what a browser keeps; no secret.
    pub(super) fn viewer(&self) -> &str {
        &self.cookie
    }

    /// The secret of the link that is good now.
    pub(super) fn link(&self) -> String {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).link.clone()
    }

    /// Changes the link's secret for a session; `None` where it is not good, or not any more.
    ///
    /// # Errors
    /// The machine gives no random numbers.
    pub(super) fn enter(&self, link: &str) -> Result<Option<Entry>> {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        if !same(&state.link, link) {
            return Ok(None);
        }
        let (session, next) = (secret()?, secret()?);
        state.links += 1;
        state.sessions.insert((state.links, session.clone()));
        while state.sessions.len() > MOST_SESSIONS {
            state.sessions.pop_first();
        }
        state.link.clone_from(&next);
        Ok(Some(Entry { set_cookie: format!("{}={session}; HttpOnly; SameSite=Strict; Path=/", self.cookie), next }))
    }

    /// Whether a `Cookie` header holds a session.
    pub(super) fn knows(&self, cookies: &str) -> bool {
        let given = cookies.split(';').filter_map(|pair| pair.trim().split_once('=')).filter(|(name, _)| *name == self.cookie);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Every session is compared in full, so that the time tells nothing.
        let mut known = false;
        for (_, given) in given {
            for (_, session) in &state.sessions {
                known |= same(session, given);
            }
        }
        known
    }
}

/// Random hexadecimal digits, two a byte.
fn secret() -> Result<String> {
    let mut bytes = [0; SECRET_BYTES];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).context("no random numbers from /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Equality in a time that depends on the lengths alone.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && std::hint::black_box(one.bytes().zip(other.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_works_once_and_its_cookie_from_then_on() {
        let keys = Keys::new().unwrap();
        let link = keys.link();
        assert_eq!(link.len(), 64);
        assert!(keys.enter("").unwrap().is_none() && keys.enter(&link[1..]).unwrap().is_none());
        let entry = keys.enter(&link).unwrap().expect("good");
        assert!(keys.enter(&link).unwrap().is_none(), "used");
        assert_eq!(entry.next, keys.link());
        let cookie = entry.set_cookie.split(';').next().unwrap();
        assert!(keys.knows(cookie) && keys.knows(&format!("a=b; {cookie}")));
        assert!(!keys.knows("") && !keys.knows(&cookie[..cookie.len() - 1]) && !keys.knows(&cookie.replace("wsi-view", "wsi")));
        assert!(!Keys::new().unwrap().knows(cookie), "another viewer's");
    }

    #[test]
    fn the_first_of_many_browsers_makes_room() {
        let keys = Keys::new().unwrap();
        let cookies: Vec<String> = (0..=MOST_SESSIONS)
            .map(|_| keys.enter(&keys.link()).unwrap().unwrap().set_cookie.split(';').next().unwrap().to_owned())
            .collect();
        assert!(!keys.knows(&cookies[0]) && cookies[1..].iter().all(|cookie| keys.knows(cookie)));
    }
}
