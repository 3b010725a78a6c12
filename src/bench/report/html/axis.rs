//! Axes: from a value to its place between the two ends, and the ticks a reader expects there: steps of 1, 2, 2.5 or 5
//! times a power of ten. An axis of lengths begins at 0, for a bar that does not lies; ratios, times and numbers of
//! flows are logarithmic, and end on 1, 2 or 5 times a power of ten.

/// One axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// Where lines are drawn and numbers stand, upwards.
    pub ticks: Vec<f64>,
    /// What stands at each tick.
    pub labels: Vec<String>,
}

impl Axis {
    /// From 0 to at least `max`, in about `wanted` steps.
    pub fn linear(max: f64, wanted: usize) -> Axis {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let step = nice(max / wanted.max(1) as f64);
        let steps = (max / step - 1e-9).ceil().max(1.0);
        let ticks: Vec<f64> = (0..=steps as usize).map(|n| n as f64 * step).collect();
        Axis {
            low: 0.0,
            high: steps * step,
            log: false,
            ticks,
            labels: Vec::new(),
        }
    }

    /// Logarithmic, from at most `low` to at least `high`; what is not above 0 has no place on it.
    pub fn log(low: f64, high: f64) -> Axis {
        let valid = |value: f64| value.is_finite() && value > 0.0;
        let low = if valid(low) { low } else { 1.0 };
        let high = if valid(high) { high.max(low) } else { low };
        let (low, mut high) = (below(low), above(high));
        if high <= low * 1.01 {
            high = above(low * 1.5);
        }
        let decades = (high / low).log10();
        let every = (decades / 7.0).ceil().max(1.0) as i32;
        let first = (low.log10() + 1e-9).floor() as i32;
        let last = (high.log10() + 1e-9).floor() as i32;
        let factors: &[f64] = if decades <= 2.4 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let inside = |value: &f64| *value >= low * 0.999 && *value <= high * 1.001;
        let ticks = (first..=last)
            .filter(|power| (power - first) % every == 0)
            .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
            .filter(inside)
            .collect();
        Axis {
            low,
            high,
            log: true,
            ticks,
            labels: Vec::new(),
        }
    }

    /// HdrHistogram's scale: 1/(1-p), logarithmic, from the least value (p = 0) to the power of ten at or above `top`,
    /// the number of samples. A percentile lies as far to the right as it is rare.
    pub fn percentile(top: f64) -> Axis {
        let decades = if top.is_finite() {
            (top.max(10.0).log10() - 1e-9).ceil().clamp(1.0, 9.0)
        } else {
            1.0
        };
        let ticks = (0..=decades as i32).map(|power| 10f64.powi(power)).collect();
        Axis {
            low: 1.0,
            high: 10f64.powf(decades),
            log: true,
            ticks,
            labels: Vec::new(),
        }
    }

    /// With what `name` says of each tick.
    pub fn labelled(mut self, name: impl Fn(f64) -> String) -> Axis {
        self.labels = self.ticks.iter().map(|&tick| name(tick)).collect();
        self
    }

    /// Where `value` lies: 0 at the lower end, 1 at the upper. What lies outside is at the end that it is beyond.
    pub fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }

    /// The distance of ticks, of a linear axis.
    pub fn step(&self) -> f64 {
        match self.ticks[..] {
            [first, second, ..] => second - first,
            _ => 1.0,
        }
    }

    /// The upper end.
    pub fn high(&self) -> f64 {
        self.high
    }
}

/// The power of ten at or below `value`, and how many times `value` is it: 1 to 10.
fn split(value: f64) -> (f64, f64) {
    let power = 10f64.powi((value.log10() + 1e-9).floor() as i32);
    (power, value / power)
}

fn nice(raw: f64) -> f64 {
    let (power, times) = split(raw);
    let nice = [1.0, 2.0, 2.5, 5.0].into_iter().find(|nice| times <= nice + 1e-9);
    power * nice.unwrap_or(10.0)
}

fn below(value: f64) -> f64 {
    let (power, times) = split(value);
    let nice = [5.0, 2.0].into_iter().find(|nice| times >= nice - 1e-9);
    power * nice.unwrap_or(1.0)
}

fn above(value: f64) -> f64 {
    let (power, times) = split(value);
    let nice = [1.0, 2.0, 5.0].into_iter().find(|nice| times <= nice + 1e-9);
    power * nice.unwrap_or(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1.0)
    }

    #[test]
    fn linear_ticks_are_nice_and_reach_the_top() {
        let axis = Axis::linear(1.07e6, 5);
        let wanted = [0.0, 250e3, 500e3, 750e3, 1e6, 1.25e6];
        assert_eq!(axis.ticks.len(), wanted.len(), "{axis:?}");
        assert!(axis.ticks.iter().zip(wanted).all(|(&a, b)| near(a, b)), "{axis:?}");
        assert!(near(axis.at(625e3), 0.5));
        assert!(
            near(Axis::linear(1.0, 4).high(), 1.0),
            "a top on a tick needs no other above it"
        );
    }

    #[test]
    fn any_maximum_gives_few_ticks_that_hold_it() {
        let mut max = 1e-7;
        while max < 1e12 {
            for wanted in 2..8 {
                let axis = Axis::linear(max, wanted);
                assert!(axis.high() >= max * (1.0 - 1e-6), "{max}: {axis:?}");
                assert!(
                    (2..=wanted + 2).contains(&axis.ticks.len()),
                    "{max} in {wanted}: {axis:?}"
                );
            }
            max *= 1.37;
        }
    }

    #[test]
    fn an_axis_of_nothing_is_an_axis() {
        for max in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let axis = Axis::linear(max, 4);
            assert!(axis.high() > 0.0 && axis.ticks.len() >= 2, "{max}: {axis:?}");
        }
        for (low, high) in [
            (0.0, 0.0),
            (5.0, 5.0),
            (f64::NAN, 1.0),
            (1.0, f64::INFINITY),
            (10.0, 1.0),
        ] {
            let axis = Axis::log(low, high);
            assert!(axis.ticks.len() >= 2, "{low}..{high}: {axis:?}");
            assert!(axis.at(low).is_finite() && axis.at(high).is_finite());
        }
    }

    #[test]
    fn log_ticks() {
        assert_eq!(Axis::log(1.0, 1e6).ticks.len(), 7);
        let axis = Axis::log(1_500.0, 42_000.0);
        let wanted = [1e3, 2e3, 5e3, 1e4, 2e4, 5e4];
        assert_eq!(axis.ticks.len(), wanted.len(), "{axis:?}");
        assert!(axis.ticks.iter().zip(wanted).all(|(&a, b)| near(a, b)), "{axis:?}");
        assert!(near(axis.at(1e3), 0.0) && near(axis.at(5e4), 1.0));
        assert!(near(Axis::log(1.0, 1e4).at(1e2), 0.5));
        assert!(Axis::log(1.0, 1e18).ticks.len() <= 10);
    }

    #[test]
    fn percentiles_end_where_the_samples_do() {
        assert_eq!(Axis::percentile(250_000.0).ticks.len(), 7);
        assert_eq!(Axis::percentile(1_000.0).ticks.len(), 4);
        assert_eq!(Axis::percentile(0.0).ticks.len(), 2);
        assert_eq!(Axis::percentile(f64::NAN).ticks.len(), 2);
        assert!(near(Axis::percentile(1e4).at(100.0), 0.5));
    }

    #[test]
    fn what_lies_outside_is_at_the_end() {
        let axis = Axis::linear(10.0, 5);
        assert!(near(axis.at(-3.0), 0.0) && near(axis.at(1e9), 1.0) && near(axis.at(f64::NAN), 0.0));
        assert!(near(Axis::log(1.0, 10.0).at(0.0), 0.0));
    }
}
