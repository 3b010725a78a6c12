//! Numbers as a reader wants them: three digits that count, the unit that keeps them short, thousands apart, what is
//! missing as a dash. Charts and tables write every number through this file, so that one value looks the same
//! everywhere.

/// What stands where there is no number.
pub const NONE: &str = "–";

/// A unit and how many of the base unit it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// As it is written.
    pub name: &'static str,
    /// One of it, in the base unit.
    pub size: f64,
}

impl Unit {
    /// For rates of up to `max` frames per second. Mpps from a tenth of one: it is the word of the field.
    pub fn rate(max: f64) -> Unit {
        match max {
            max if max >= 1e5 => Unit {
                name: "Mpps",
                size: 1e6,
            },
            max if max >= 1e3 => Unit {
                name: "kpps",
                size: 1e3,
            },
            _ => Unit { name: "pps", size: 1.0 },
        }
    }

    /// For times of up to `max` nanoseconds.
    pub fn time(max: f64) -> Unit {
        match max {
            max if max >= 1e9 => Unit { name: "s", size: 1e9 },
            max if max >= 1e6 => Unit { name: "ms", size: 1e6 },
            max if max >= 1e3 => Unit { name: "µs", size: 1e3 },
            _ => Unit { name: "ns", size: 1.0 },
        }
    }

    /// `value`, given in the base unit, without the unit's name.
    pub fn of(self, value: f64) -> String {
        digits(value / self.size)
    }
}

/// Three digits that count: 0.0281, 1.62, 16.2, 162, 1,620.
pub fn digits(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = (2 - power(value, 2)).clamp(0, 9) as usize;
    grouped(&format!("{value:.decimals$}"))
}

/// Two digits that count, for a place with little room beside an axis.
pub fn rough(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return digits(value);
    }
    let decimals = (1 - power(value, 1)).clamp(0, 9) as usize;
    grouped(&format!("{value:.decimals$}"))
}

/// The power of ten that a value begins with, when it is rounded to so many decimals behind its first digit: 0.997 is
/// 1.0, and not 1.00.
fn power(value: f64, decimals: usize) -> i32 {
    let text = format!("{value:.decimals$e}");
    text.split_once('e')
        .and_then(|(_, power)| power.parse().ok())
        .unwrap_or(0)
}

/// A whole number with its thousands apart.
pub fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// A tick of an axis whose ticks are `step` apart: as many decimals as the step has.
pub fn tick(value: f64, step: f64) -> String {
    let decimals = (-(step.abs().log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize;
    // 2.5 has one decimal more than its power of ten.
    let scaled = step * 10f64.powi(decimals as i32);
    let decimals = decimals + usize::from((scaled - scaled.round()).abs() > 1e-6);
    grouped(&format!("{value:.decimals$}"))
}

/// A short count for an axis: 1, 10, 1k, 1M.
pub fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", trimmed(value / 1e6)),
        value if value >= 1e3 => format!("{}k", trimmed(value / 1e3)),
        value => trimmed(value),
    }
}

/// A time with its unit.
pub fn time(ns: f64) -> String {
    if !ns.is_finite() {
        return NONE.to_owned();
    }
    let unit = Unit::time(ns);
    let value = if unit.size == 1.0 {
        grouped(&format!("{ns:.0}"))
    } else {
        unit.of(ns)
    };
    format!("{value} {}", unit.name)
}

/// A time for an axis, without decimals that say nothing.
pub fn short_time(ns: f64) -> String {
    let unit = Unit::time(ns);
    format!("{} {}", trimmed(ns / unit.size), unit.name)
}

/// A rate with its unit.
pub fn rate(pps: f64) -> String {
    // Alone, 820 kpps is shorter than 0.820 Mpps.
    let unit = if pps < 1e6 {
        Unit::rate(pps.min(99_999.0))
    } else {
        Unit::rate(pps)
    };
    format!("{} {}", unit.of(pps), unit.name)
}

/// A share as per cent, or in parts per million; what is lost is never rounded to nothing.
pub fn percent(share: f64) -> String {
    match share {
        share if !share.is_finite() => NONE.to_owned(),
        share if share > 0.0 && share < 1e-9 => "< 0.001 ppm".to_owned(),
        share if share > 0.0 && share < 1e-4 => format!("{} ppm", digits(share * 1e6)),
        share => format!("{} %", digits(share * 100.0)),
    }
}

/// A share that somebody chose, as per cent: 90 % and not 90.0 %.
pub fn chosen(share: f64) -> String {
    format!("{} %", trimmed(share * 100.0))
}

/// The percentile that lies at `x` = 1/(1-p): 0, 90, 99, 99.9.
pub fn percentile(x: f64) -> String {
    let decimals = ((x.log10() + 1e-9).floor() as usize).saturating_sub(2);
    let percent = 100.0 - 100.0 / x.max(1.0);
    format!("{percent:.decimals$}")
}

/// Seconds since 1970 as a date and a time of day, UTC.
pub fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is the last of one; eras are of 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        rest / 3_600,
        rest / 60 % 60
    )
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    grouped(text.trim_end_matches('0').trim_end_matches('.'))
}

fn grouped(number: &str) -> String {
    let (sign, rest) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        let cases = [
            (0.0, "0"),
            (0.028_14, "0.0281"),
            (1.618, "1.62"),
            (9.996, "10.0"),
            (16.18, "16.2"),
            (161.8, "162"),
            (1_618_033.0, "1,618,033"),
            (-1234.0, "-1,234"),
            (1e-12, "0.000000000"),
            (f64::NAN, NONE),
            (f64::INFINITY, NONE),
        ];
        for (value, text) in cases {
            assert_eq!(digits(value), text, "{value}");
        }
    }

    #[test]
    fn rough_is_two_digits_or_whole() {
        let said = [0.0281, 0.82, 0.997, 1.05, 16.2, 2_150.0].map(rough);
        assert_eq!(said, ["0.028", "0.82", "1.0", "1.1", "16", "2,150"]);
        assert_eq!((rough(0.0), rough(f64::NAN)), ("0".into(), NONE.into()));
    }

    #[test]
    fn units_fit_their_values() {
        assert_eq!(time(0.0), "0 ns");
        assert_eq!(time(999.0), "999 ns");
        assert_eq!(time(1_500.0), "1.50 µs");
        assert_eq!(time(2_340_000.0), "2.34 ms");
        assert_eq!(time(12e9), "12.0 s");
        assert_eq!(rate(1_234_567.0), "1.23 Mpps");
        assert_eq!(rate(28_100.0), "28.1 kpps");
        assert_eq!(rate(820_000.0), "820 kpps");
        assert_eq!(rate(12.0), "12.0 pps");
        assert_eq!(Unit::rate(2e6).of(28_100.0), "0.0281");
        assert_eq!(short_time(200_000.0), "200 µs");
        assert_eq!(
            (short(1.0), short(1e4), short(2.5e6)),
            ("1".into(), "10k".into(), "2.5M".into())
        );
    }

    #[test]
    fn a_lost_frame_in_a_thousand_million_is_seen() {
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(1e-12), "< 0.001 ppm");
        assert_eq!(percent(2.5e-9), "0.00250 ppm");
        assert_eq!(percent(0.012_34), "1.23 %");
        assert_eq!((chosen(0.9), chosen(0.125)), ("90 %".into(), "12.5 %".into()));
        assert_eq!(percent(0.5), "50.0 %");
        assert_eq!(percent(1.0), "100 %");
    }

    #[test]
    fn ticks_have_the_decimals_of_their_step() {
        assert_eq!(tick(0.5, 0.25), "0.50");
        assert_eq!(tick(0.0, 0.2), "0.0");
        assert_eq!(tick(1.5, 0.5), "1.5");
        assert_eq!(tick(2000.0, 1000.0), "2,000");
        assert_eq!(tick(7.5, 2.5), "7.5");
    }

    #[test]
    fn percentiles_on_the_scale() {
        let named: Vec<String> = [1.0, 10.0, 100.0, 1e3, 1e4, 1e6].map(percentile).into();
        assert_eq!(named, ["0", "90", "99", "99.9", "99.99", "99.9999"]);
    }

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_735_689_599), "2024-12-31 23:59 UTC");
        assert_eq!(date(4_107_542_400), "2100-03-01 00:00 UTC");
    }
}
