//! When classes change their mode: for each level, those that cannot send by themselves, the first to change on top (`wait_pq` of
//! sch_htb.c, a tree there). A binary heap that knows where each class lies, so that one can be taken out of its middle; it
//! allocates nothing but when the tree is made. Of equal times, the first that came is first.

use super::feed::NONE;

#[derive(Clone, Copy, Debug)]
struct Event {
    at_ns: u64,
    number: u64,
    class: u32,
}

/// The events of one level.
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    heap: Vec<Event>,
    places: Vec<u32>,
    numbers: u64,
}

impl Events {
    /// None, for classes below `classes`.
    pub fn new(classes: usize) -> Self {
        Self {
            heap: Vec::with_capacity(classes),
            places: vec![NONE; classes],
            numbers: 0,
        }
    }

    /// The first event, and whose it is.
    #[inline]
    pub fn first(&self) -> Option<(u64, u32)> {
        self.heap.first().map(|event| (event.at_ns, event.class))
    }

    pub fn insert(&mut self, class: u32, at_ns: u64) {
        self.remove(class);
        self.numbers += 1;
        let place = self.heap.len();
        self.heap.push(Event {
            at_ns,
            number: self.numbers,
            class,
        });
        self.up(place);
    }

    /// Takes the event of a class out, if it has one.
    pub fn remove(&mut self, class: u32) {
        let place = self.places[class as usize] as usize;
        if place >= self.heap.len() {
            return;
        }
        self.heap.swap_remove(place);
        self.places[class as usize] = NONE;
        if place < self.heap.len() {
            self.up(place);
            self.down(place);
        }
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.heap.clear();
        self.places.fill(NONE);
    }

    fn is_before(&self, a: usize, b: usize) -> bool {
        let key = |place: usize| (self.heap[place].at_ns, self.heap[place].number);
        key(a) < key(b)
    }

    fn up(&mut self, mut place: usize) {
        while place > 0 && self.is_before(place, (place - 1) / 2) {
            let above = (place - 1) / 2;
            self.swap(place, above);
            place = above;
        }
        self.places[self.heap[place].class as usize] = place as u32;
    }

    fn down(&mut self, mut place: usize) {
        loop {
            let mut below = 2 * place + 1;
            if below >= self.heap.len() {
                break;
            }
            if below + 1 < self.heap.len() && self.is_before(below + 1, below) {
                below += 1;
            }
            if !self.is_before(below, place) {
                break;
            }
            self.swap(place, below);
            place = below;
        }
        self.places[self.heap[place].class as usize] = place as u32;
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.places[self.heap[a].class as usize] = a as u32;
        self.places[self.heap[b].class as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_whatever_is_taken_out() {
        let mut events = Events::new(1000);
        let mut model = std::collections::BTreeMap::new();
        let mut seed = 1u64;
        for step in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (class, at_ns) = ((seed >> 33) as u32 % 1000, seed >> 55);
            model.retain(|_, other| *other != class);
            if step % 3 == 0 {
                events.remove(class);
            } else {
                events.insert(class, at_ns);
                model.insert((at_ns, step), class);
            }
            let first = model.first_key_value().map(|((at_ns, _), class)| (*at_ns, *class));
            assert_eq!(events.first(), first);
        }
    }
}
