//! What is tried again, how often, and after how long.
//!
//! A lost connection and an answer that says "later" are tried again, after a time that doubles and that chance makes
//! longer or shorter; what a server asks for with `Retry-After` (RFC 9110, section 10.2.3) is granted up to a bound. Who
//! sends a request without a [`Policy`] sends it once: a service is asked so, as a question to it may not be repeatable.

use std::time::Duration;

use jiff::Timestamp;

/// What an error says of trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would end in the same way.
    Final,
    /// Nobody was reached: there is no such name, or nobody listens there. That may pass, but rarely does.
    Unreached,
    /// It may help.
    Passing {
        /// How long the server wants to be left alone; zero where it did not say.
        after: Duration,
    },
}

/// An error of something that can be tried again.
pub trait Judged {
    /// What it says of trying again.
    fn verdict(&self) -> Verdict;

    /// Whether trying again may help.
    fn is_passing(&self) -> bool {
        self.verdict() != Verdict::Final
    }
}

impl Verdict {
    /// Of an answer with the HTTP status `status`, and what it says of when to come again.
    ///
    /// 5xx are the server's own trouble (and that of whoever stands in front of it, who says 520 to 524), except that a
    /// server will not learn a method or a version of HTTP meanwhile.
    pub fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            501 | 505 => Self::Final,
            408 | 429 | 500..=599 => Self::Passing { after: retry_after.unwrap_or_default() },
            _ => Self::Final,
        }
    }
}

/// How often something is tried, and how long is waited in between.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// How often it is tried again after it failed.
    pub again: u32,
    /// How often where nobody was reached.
    pub unreached: u32,
    /// What is waited after the first failure, on average; twice as long after each further one.
    pub first: Duration,
    /// Longest time that a server may ask to be left alone. Who wants more gets no further try.
    pub patience: Duration,
}

impl Default for Policy {
    /// The one of all that goes over the network: 12.6 s in all, unless a server asks for more, and 1.4 s where nobody is
    /// reached.
    fn default() -> Self {
        Self { again: 6, unreached: 3, first: Duration::from_millis(200), patience: Duration::from_secs(300) }
    }
}

impl Policy {
    /// Tries until it works or is of no use. `pause` lets a time pass after the error, or says that nobody waits.
    pub(super) fn run<T, E: Judged>(
        self,
        mut pause: impl FnMut(&E, Duration) -> bool,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut tries = Tries::new(self);
        loop {
            match attempt() {
                Err(error) => match tries.next(error.verdict(), fastrand::f64()) {
                    Some(time) if pause(&error, time) => {}
                    _ => return Err(error),
                },
                result => return result,
            }
        }
    }
}

/// How often something was tried by now.
#[derive(Clone, Debug)]
pub struct Tries {
    policy: Policy,
    failed: u32,
}

impl Tries {
    /// None yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, failed: 0 }
    }

    /// Something was achieved: the count begins anew.
    pub fn progress(&mut self) {
        self.failed = 0;
    }

    /// Whether it has failed so often that another way is worth a try.
    pub fn is_nearly_over(&self) -> bool {
        self.failed * 2 >= self.policy.again
    }

    /// Counts a failure, and says how long to wait before the next try; none when it is of no use. `chance` is from 0 to
    /// 1: twenty that failed together should not come back together, nor when a server told them all the same time.
    pub fn next(&mut self, verdict: Verdict, chance: f64) -> Option<Duration> {
        let (after, most) = match verdict {
            Verdict::Final => return None,
            Verdict::Unreached => (Duration::ZERO, self.policy.unreached),
            Verdict::Passing { after } => (after, self.policy.again),
        };
        if self.failed >= most || after > self.policy.patience {
            return None;
        }
        let doubled = self.policy.first.saturating_mul(2_u32.saturating_pow(self.failed));
        self.failed += 1;
        Some(after + doubled.mul_f64(0.5 + chance))
    }
}

/// The time in a header `Retry-After`, seen from `now`: seconds, or a date.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(date.duration_since(now).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error as `Verdict` says.
    impl Judged for Verdict {
        fn verdict(&self) -> Verdict {
            *self
        }
    }

    const NOW: Verdict = Verdict::Passing { after: Duration::ZERO };

    fn after(seconds: u64) -> Verdict {
        Verdict::Passing { after: Duration::from_secs(seconds) }
    }

    /// What comes of the answers in turn, and which times passed in between.
    fn run(policy: Policy, answers: &[Result<u8, Verdict>]) -> (Result<u8, Verdict>, Vec<Duration>) {
        let (mut answers, mut times) = (answers.iter(), Vec::new());
        let pause = |_: &Verdict, time| {
            times.push(time);
            true
        };
        (policy.run(pause, || *answers.next().expect("it was tried too often")), times)
    }

    #[test]
    fn what_passes_is_tried_again_and_nothing_else() {
        for status in [408, 429, 500, 502, 503, 504, 507, 520, 524] {
            assert_eq!(Verdict::of_status(status, None), NOW, "{status}");
        }
        for status in [301, 400, 401, 403, 404, 409, 413, 416, 501, 505, 600] {
            assert_eq!(Verdict::of_status(status, Some(Duration::from_secs(1))), Verdict::Final, "{status}");
        }
        assert_eq!(Verdict::of_status(503, Some(Duration::from_secs(7))), after(7));
    }

    #[test]
    fn it_ends_with_the_first_success_or_what_is_final() {
        let policy = Policy::default();
        assert_eq!(run(policy, &[Ok(1)]), (Ok(1), Vec::new()));
        let (result, times) = run(policy, &[Err(NOW), Err(NOW), Ok(2)]);
        assert_eq!((result, times.len()), (Ok(2), 2));
        let (result, times) = run(policy, &[Err(NOW), Err(Verdict::Final)]);
        assert_eq!((result, times.len()), (Err(Verdict::Final), 1));
        let (result, times) = run(policy, &[Err(NOW); 7]);
        assert_eq!((result, times.len()), (Err(NOW), 6));
        // Nobody there is soon said.
        let (result, times) = run(policy, &[Err(Verdict::Unreached); 4]);
        assert_eq!((result, times.len()), (Err(Verdict::Unreached), 3));
        let once = Policy { again: 0, ..policy };
        assert_eq!(run(once, &[Err(NOW)]), (Err(NOW), Vec::new()));
    }

    #[test]
    fn nobody_tries_again_when_nobody_waits() {
        let mut tried = 0;
        let result: Result<(), _> = Policy::default().run(
            |_, _| false,
            || {
                tried += 1;
                Err(NOW)
            },
        );
        assert_eq!((result, tried), (Err(NOW), 1));
    }

    #[test]
    fn times_double_and_vary() {
        let times = |chance| {
            let mut tries = Tries::new(Policy::default());
            std::iter::from_fn(|| tries.next(NOW, chance)).map(|time| time.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(times(0.5), [200, 400, 800, 1600, 3200, 6400]);
        assert_eq!(times(0.0), [100, 200, 400, 800, 1600, 3200]);
        assert_eq!(times(1.0), [300, 600, 1200, 2400, 4800, 9600]);
    }

    #[test]
    fn a_server_is_left_alone_as_long_as_it_asks_within_reason() {
        let mut tries = Tries::new(Policy::default());
        assert_eq!(tries.next(after(2), 0.5), Some(Duration::from_millis(2200)));
        assert_eq!(tries.next(after(300), 0.5), Some(Duration::from_millis(300_400)));
        assert_eq!(tries.next(after(301), 0.5), None);
        let (result, times) = run(Policy::default(), &[Err(after(3600))]);
        assert_eq!((result, times.len()), (Err(after(3600)), 0));
    }

    #[test]
    fn who_gets_on_has_all_tries_again() {
        let mut tries = Tries::new(Policy::default());
        for _ in 0..3 {
            assert!(!tries.is_nearly_over());
            tries.next(NOW, 0.0).unwrap();
        }
        assert!(tries.is_nearly_over());
        tries.progress();
        assert!(!tries.is_nearly_over());
        assert_eq!(std::iter::from_fn(|| tries.next(NOW, 0.0)).count(), 6);
        // A count beyond what a doubled time can hold.
        let mut tries = Tries::new(Policy { again: u32::MAX, ..Policy::default() });
        tries.failed = 1 << 20;
        assert!(tries.next(NOW, 1.0).is_some());
    }

    #[test]
    fn waiting_times_are_seconds_or_dates() {
        let now = "2015-10-21T07:28:00Z".parse().unwrap();
        assert_eq!(retry_after(" 3 ", now), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:40 GMT", now), Some(Duration::from_secs(40)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:27:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
