//! Whether the guest still answers: a guest that says nothing for a while is asked, one that does not answer hangs.
//!
//! Pure. All times are the guest's own: those in which it was let run.

use std::time::Duration;

/// How long the guest may say nothing before it is asked. Short steps are thus never disturbed.
const QUIET: Duration = Duration::from_secs(5);
/// How long it may take to answer: milliseconds, unless it hangs or the host is very busy. The kernel's own detectors of what
/// hangs, which know more of it, speak up after about 20 seconds.
const PATIENCE: Duration = Duration::from_secs(25);

/// When the guest was last heard of.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    heard: Duration,
    asked: Option<Duration>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing.
    Fine,
    /// Ask for a sign of life.
    Ask,
    /// The guest was asked, and has been silent for this long.
    Silent(Duration),
}

impl Heartbeat {
    /// The guest said something.
    pub(super) fn hear(&mut self, now: Duration) {
        *self = Heartbeat { heard: now, asked: None };
    }

    /// What is to be done now.
    pub(super) fn beat(&mut self, now: Duration) -> Beat {
        match self.asked {
            Some(asked) if now > asked + PATIENCE => Beat::Silent(now.saturating_sub(self.heard)),
            None if now > self.heard + QUIET => {
                self.asked = Some(now);
                Beat::Ask
            }
            _ => Beat::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_asked_once_and_given_up_when_it_does_not_answer() {
        let at = Duration::from_millis;
        let mut heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.beat(at(4_900)), Beat::Fine);
        heartbeat.hear(at(4_950));
        assert_eq!(heartbeat.beat(at(9_900)), Beat::Fine);
        assert_eq!(heartbeat.beat(at(9_960)), Beat::Ask);
        assert_eq!(heartbeat.beat(at(34_900)), Beat::Fine);
        heartbeat.hear(at(34_950));
        assert_eq!(heartbeat.beat(at(40_000)), Beat::Ask);
        assert_eq!(heartbeat.beat(at(65_001)), Beat::Silent(at(30_051)));
    }
}
