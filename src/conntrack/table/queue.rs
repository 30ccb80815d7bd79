/// A first-in-first-out queue of flows, by their hashes, from whose middle a flow can leave at once:
/// a doubly linked list in an array.
#[derive(Debug)]
pub(super) struct Queue {
    /// In pieces that stay where they are, so that growing copies nothing.
    chunks: Vec<Box<[Node]>>,
    first: Place,
    last: Place,
    /// Head of the list of unused nodes, linked by `next`.
    unused: Place,
    len: usize,
}

/// Where a flow stands in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

impl Place {
    /// Nowhere.
    pub(super) const NONE: Place = Place(u32::MAX);
}

#[derive(Clone, Copy, Debug)]
struct Node {
    hash: u64,
    previous: Place,
    next: Place,
}

/// 16 KiB at a time.
const NODES_PER_CHUNK: usize = 1024;

/// Marks a node that is in no queue: it is its own predecessor, which no other node is.
fn unused(at: Place, next: Place) -> Node {
    Node {
        hash: 0,
        previous: at,
        next,
    }
}

impl Queue {
    /// Flows in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a flow at the end.
    pub(super) fn push(&mut self, hash: u64) -> Place {
        if self.unused == Place::NONE {
            self.grow();
        }
        let (at, last) = (self.unused, self.last);
        let Some(node) = self.node(at) else {
            return Place::NONE; // 4 billion flows
        };
        let next_unused = node.next;
        *node = Node {
            hash,
            previous: last,
            next: Place::NONE,
        };
        self.unused = next_unused;
        match self.node(last) {
            Some(node) => node.next = at,
            None => self.first = at,
        }
        self.last = at;
        self.len += 1;
        at
    }

    /// Takes the first flow out.
    pub(super) fn pop(&mut self) -> Option<u64> {
        let first = self.first;
        let hash = self.node(first)?.hash;
        self.remove(first, hash);
        Some(hash)
    }

    /// Takes a flow out, unless it was popped meanwhile.
    pub(super) fn remove(&mut self, at: Place, hash: u64) {
        let next_unused = self.unused;
        let Some(node) = self.node(at) else { return };
        if node.hash != hash || node.previous == at {
            return;
        }
        let Node { previous, next, .. } = std::mem::replace(node, unused(at, next_unused));
        match self.node(previous) {
            Some(node) => node.next = next,
            None => self.first = next,
        }
        match self.node(next) {
            Some(node) => node.previous = previous,
            None => self.last = previous,
        }
        self.unused = at;
        self.len -= 1;
    }

    fn node(&mut self, at: Place) -> Option<&mut Node> {
        let at = at.0 as usize;
        self.chunks
            .get_mut(at / NODES_PER_CHUNK)?
            .get_mut(at % NODES_PER_CHUNK)
    }

    fn grow(&mut self) {
        let begin = self.chunks.len() * NODES_PER_CHUNK;
        let Ok(end) = u32::try_from(begin + NODES_PER_CHUNK) else {
            return;
        };
        let place = |at: usize| Place(at as u32);
        let node = |at| match at + 1 == end as usize {
            true => unused(place(at), Place::NONE),
            false => unused(place(at), place(at + 1)),
        };
        self.chunks.push((begin..end as usize).map(node).collect());
        self.unused = place(begin);
    }
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
            chunks: Vec::new(),
            first: Place::NONE,
            last: Place::NONE,
            unused: Place::NONE,
            len: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn it_agrees_with_a_deque_under_random_operations() {
        let mut queue = Queue::default();
        let mut model: VecDeque<(u64, Place)> = VecDeque::new();
        let mut random = 5u64;
        for hash in 0..100_000u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            // Grows for a while, then shrinks, then grows.
            let grows = (hash / 10_000).is_multiple_of(2);
            match (random >> 33) % 4 {
                0 => assert_eq!(queue.pop(), model.pop_front().map(|(hash, _)| hash)),
                1 if !model.is_empty() => {
                    let at = (random >> 40) as usize % model.len();
                    let (hash, place) = model.remove(at).unwrap();
                    queue.remove(place, hash);
                    queue.remove(place, hash);
                }
                2 if !grows => {}
                _ => model.push_back((hash, queue.push(hash))),
            }
            assert_eq!(queue.len(), model.len());
        }
        while let Some((hash, _)) = model.pop_front() {
            assert_eq!(queue.pop(), Some(hash));
        }
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn who_was_popped_takes_nobody_elses_place() {
        let mut queue = Queue::default();
        let first = queue.push(1);
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.push(2), first);
        queue.remove(first, 1);
        queue.remove(Place::NONE, 2);
        assert_eq!((queue.len(), queue.pop()), (1, Some(2)));
    }
}
