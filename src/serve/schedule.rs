//! Hours in which a model runs: two patterns of cron in a time zone.
//!
//! Invariant: what is asked for next is what comes next: between a start and the stop that follows it is within the hours.
//! Summer time is the zone's own: a time that does not exist on a day comes when the clock has passed it.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// When a model runs.
#[derive(Clone, Debug)]
pub struct Hours {
    start: Cron,
    stop: Cron,
    zone: TimeZone,
    /// From when to when it is known whether it is within the hours.
    known: Option<(Timestamp, Timestamp, bool)>,
}

/// One of the texts means nothing.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Error {
    /// The key that it stands at.
    pub field: &'static str,
    /// Why.
    pub why: String,
}

impl Hours {
    /// From each time of `start` to the next of `stop`, in `zone` or that of this machine.
    ///
    /// # Errors
    /// When one of them is no pattern, one never comes, or the zone is not known.
    pub fn new(start: &str, stop: &str, zone: Option<&str>) -> Result<Self, Error> {
        let zone = match zone {
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name).map_err(|_| Error {
                field: "zone",
                why: format!("`{name}` is no time zone: write one as Europe/Berlin or UTC"),
            })?,
        };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let pattern = |field: &'static str, text: &str| {
            let wrong = |why: String| Error { field, why: format!("`{text}` is no time of cron: {why}") };
            let cron = parser.parse(text).map_err(|error| wrong(error.to_string()))?;
            let now = Timestamp::now().to_zoned(zone.clone());
            cron.find_next_occurrence(&now, false).map_err(|_| wrong("it never comes".to_owned()))?;
            Ok(cron)
        };
        Ok(Self { start: pattern("start", start)?, stop: pattern("stop", stop)?, zone, known: None })
    }

    /// Whether `now` is within the hours, and when that changes; never, where nothing comes any more.
    pub fn at(&mut self, now: Timestamp) -> (bool, Option<Timestamp>) {
        if let Some((from, until, within)) = self.known
            && (from..until).contains(&now)
        {
            return (within, Some(until));
        }
        let zoned: Zoned = now.to_zoned(self.zone.clone());
        let next = |cron: &Cron| cron.find_next_occurrence(&zoned, false).ok().map(|next| next.timestamp());
        let (within, until) = match (next(&self.start), next(&self.stop)) {
            // With both at once there is nothing between them.
            (Some(start), Some(stop)) if stop < start => (true, Some(stop)),
            (start, _) => (false, start),
        };
        self.known = until.map(|until| (now, until, within));
        (within, until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: &mut Hours, time: &str) -> (bool, String) {
        let (within, next) = hours.at(time.parse().unwrap());
        (within, next.unwrap().to_string())
    }

    #[test]
    fn it_runs_from_each_start_to_the_next_stop_in_its_zone() {
        let mut hours = Hours::new("0 7 * * 1-5", "0 19 * * 1-5", Some("Europe/Berlin")).unwrap();
        // A Thursday in winter, an hour east of Greenwich.
        assert_eq!(at(&mut hours, "2026-01-15T05:59:59Z"), (false, "2026-01-15T06:00:00Z".into()));
        assert_eq!(at(&mut hours, "2026-01-15T06:00:00Z"), (true, "2026-01-15T18:00:00Z".into()));
        assert_eq!(at(&mut hours, "2026-01-15T18:00:00Z"), (false, "2026-01-16T06:00:00Z".into()));
        // From Friday evening to Monday, over the change to summer time.
        assert_eq!(at(&mut hours, "2026-03-27T20:00:00Z"), (false, "2026-03-30T05:00:00Z".into()));
    }

    #[test]
    fn a_time_that_the_clock_leaves_out_still_comes() {
        let mut hours = Hours::new("30 2 * * *", "0 19 * * *", Some("Europe/Berlin")).unwrap();
        let (within, next) = at(&mut hours, "2026-03-29T00:30:00Z");
        assert!(!within && next.starts_with("2026-03-29T01:"), "{next}");
    }

    #[test]
    fn what_means_nothing_is_told_with_its_key() {
        for (start, stop, zone, field) in [
            ("7 o'clock", "0 19 * * *", None, "start"),
            ("0 7 * * *", "0 19 * * * *", None, "stop"),
            ("0 7 31 2 *", "0 19 * * *", None, "start"),
            ("0 7 * * *", "0 19 * * *", Some("Europe/Berlim"), "zone"),
        ] {
            assert_eq!(Hours::new(start, stop, zone).unwrap_err().field, field);
        }
    }
}
