//! Preferences that follow each other, of one protocol and one kind, searched as one. `tc filter add` without a preference gives each
//! filter one of its own: a thousand of them would be asked one after the other.
//!
//! What the first of them that matches says counts, as before: of marks the first of each counts, u32 keeps its preferences apart
//! where that matters, and rules of flower are joined only where no frame can match two that differ.

use super::flower::Flower;
use super::u32::U32;
use super::{Filter, Marks, Match};

/// The same filters, fewer of them.
pub fn join(filters: Vec<Filter>) -> Vec<Filter> {
    let kind = |filter: &Filter| (filter.protocol, std::mem::discriminant(&filter.what));
    let runs = filters.chunk_by(|a, b| kind(a) == kind(b));
    runs.flat_map(|run| match joined(run) {
        Some(one) => vec![one],
        None => run.to_vec(),
    })
    .collect()
}

fn joined(run: &[Filter]) -> Option<Filter> {
    let [first, _, ..] = run else { return None };
    let what = match &first.what {
        // Behind the first of them no other is asked.
        Match::All(class) => Match::All(*class),
        Match::Mark(_) => {
            let of = |filter: &'_ Filter| match &filter.what {
                Match::Mark(marks) => Some(marks.clone()),
                _ => None,
            };
            let all: Vec<Marks> = run.iter().filter_map(of).collect();
            Match::Mark(Marks::joined(&all.iter().collect::<Vec<_>>())?)
        }
        Match::U32(_) => {
            let of = |filter: &Filter| match &filter.what {
                Match::U32(tables) => Some(tables.clone()),
                _ => None,
            };
            Match::U32(U32::joined(run.iter().filter_map(of).collect()))
        }
        Match::Flower(_) => {
            let of = |filter: &Filter| match &filter.what {
                Match::Flower(flower) => Some(flower.rules().cloned().collect::<Vec<_>>()),
                _ => None,
            };
            Match::Flower(Flower::new(run.iter().filter_map(of).flatten().collect()).ok()?)
        }
    };
    Some(Filter {
        protocol: first.protocol,
        what,
    })
}
