//! Which packets are the same one: on its way through the stack, as a clone, before and after NAT.
//!
//! Pure. A packet is known by the buffer that it is in, which clones share and which loopback, veth and bridges pass on. The
//! kernel gives buffers out again, so what is in one must not contradict what was in it before; what NAT and routers
//! change (addresses, ports, TTL, checksums) is not asked.

use std::collections::{BTreeMap, VecDeque};

/// How many packets are remembered; the ones that were seen longest ago are forgotten.
const MANY: usize = 1024;

/// What two sights of one packet must agree on where both have it, by name.
pub type Facts = BTreeMap<&'static str, u64>;

/// Facts that different packets often share tell nothing by being equal.
const COMMON: [&str; 2] = ["protocol", "flags"];

/// A packet at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// Where its `sk_buff` is.
    pub skb: u64,
    /// Where its buffer begins (`head`).
    pub buffer: u64,
    /// What its headers say.
    pub facts: Facts,
    /// Both ends, as far as its headers say; only a copy in another buffer is recognised by them.
    pub ends: Option<(String, String)>,
}

/// What two sights say of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Same,
    Another,
    /// They have nothing in common that could be compared.
    Open,
}

/// Gives packets their numbers.
#[derive(Debug, Default)]
pub struct Follower {
    /// The one that was seen last is the last.
    known: VecDeque<Known>,
    count: u64,
}

#[derive(Debug)]
struct Known {
    number: u64,
    sight: Sight,
}

impl Follower {
    /// The numbers of packets that were seen at one moment, counted from 1 in the order of their first sight. What is in one
    /// buffer at one moment is one packet.
    pub fn numbers(&mut self, sights: &[Sight]) -> Vec<u64> {
        let mut here: Vec<(Sight, u64)> = Vec::new();
        for sight in sights {
            if here.iter().any(|(known, _)| known.buffer == sight.buffer) {
                continue;
            }
            let mut whole = sight.clone();
            for other in sights.iter().filter(|other| other.buffer == sight.buffer) {
                other.facts.iter().for_each(|(name, value)| _ = whole.facts.entry(name).or_insert(*value));
                whole.ends = whole.ends.or_else(|| other.ends.clone());
            }
            let number = self.number(&whole);
            here.push((whole, number));
        }
        let number = |sight: &Sight| here.iter().find(|(known, _)| known.buffer == sight.buffer).map(|(_, it)| *it);
        sights.iter().filter_map(number).collect()
    }

    fn number(&mut self, sight: &Sight) -> u64 {
        let in_buffer = self.known.iter().rposition(|known| known.sight.buffer == sight.buffer);
        let found = in_buffer.filter(|at| self.known[*at].goes_on_as(sight));
        let found = found.or_else(|| self.known.iter().rposition(|known| known.was_moved_to(sight)));
        let mut known = match found.and_then(|at| self.known.remove(at)) {
            Some(known) => known,
            None => {
                self.count += 1;
                Known { number: self.count, sight: sight.clone() }
            }
        };
        let number = known.number;
        let Sight { facts, ends, .. } = std::mem::replace(&mut known.sight, sight.clone());
        facts.into_iter().for_each(|(name, value)| _ = known.sight.facts.entry(name).or_insert(value));
        known.sight.ends = known.sight.ends.or(ends);
        self.known.push_back(known);
        if self.known.len() > MANY {
            self.known.pop_front();
        }
        number
    }
}

impl Known {
    /// Whether what is in this packet's buffer now is still this packet. One that nothing can be read of is: before its
    /// headers are written. One that had headers and has none any more is not: the buffer is another packet's.
    fn goes_on_as(&self, sight: &Sight) -> bool {
        match compare(&self.sight.facts, &sight.facts) {
            Verdict::Same => true,
            Verdict::Another => false,
            Verdict::Open => self.sight.facts.is_empty(),
        }
    }

    /// Whether a packet in another buffer is this one: its `sk_buff` got a larger one, or it was copied with all that it says.
    fn was_moved_to(&self, sight: &Sight) -> bool {
        let same = self.sight.buffer != sight.buffer && compare(&self.sight.facts, &sight.facts) == Verdict::Same;
        let copied = || {
            self.sight.facts == sight.facts
                && self.sight.ends.is_some()
                && self.sight.ends == sight.ends
                && sight.facts.contains_key("ip id")
        };
        same && (self.sight.skb == sight.skb || copied())
    }
}

fn compare(first: &Facts, second: &Facts) -> Verdict {
    let mut verdict = Verdict::Open;
    for (name, value) in first {
        match second.get(name) {
            Some(other) if other != value => return Verdict::Another,
            Some(_) if !COMMON.contains(name) => verdict = Verdict::Same,
            _ => {}
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFER: u64 = 0xffff_8880_0010_0000;
    const SKB: u64 = 0xffff_8880_0020_0000;

    fn sight(skb: u64, buffer: u64, facts: &[(&'static str, u64)]) -> Sight {
        Sight { skb, buffer, facts: facts.iter().copied().collect(), ends: Some(("a:1".into(), "b:2".into())) }
    }

    fn segment(buffer: u64, ip_id: u64, seq: u64) -> Sight {
        sight(SKB, buffer, &[("protocol", 6), ("ip id", ip_id), ("seq", seq), ("ack", 0), ("flags", 2)])
    }

    /// The numbers of sights one after the other.
    fn one_by_one(sights: &[Sight]) -> Vec<u64> {
        let mut follower = Follower::default();
        sights.iter().flat_map(|sight| follower.numbers(std::slice::from_ref(sight))).collect()
    }

    #[test]
    fn a_packet_keeps_its_number_from_before_its_headers_are_written_to_its_clone_behind_nat() {
        let nothing = sight(SKB, BUFFER, &[]);
        let alone = sight(SKB, BUFFER, &[("protocol", 6), ("seq", 7), ("flags", 2)]);
        let mut translated = segment(BUFFER, 5, 7);
        (translated.skb, translated.ends) = (SKB + 512, Some(("c:3".into(), "b:2".into())));
        assert_eq!(one_by_one(&[nothing, alone, segment(BUFFER, 5, 7), translated]), [1, 1, 1, 1]);
    }

    #[test]
    fn another_packet_in_a_buffer_that_was_given_out_again_has_another_number() {
        let all = [segment(BUFFER, 5, 7), segment(BUFFER, 6, 7), segment(BUFFER, 6, 8), segment(BUFFER + 4096, 9, 9)];
        assert_eq!(one_by_one(&all), [1, 2, 3, 4]);
        // One that has no headers yet is not the one that had them.
        assert_eq!(one_by_one(&[segment(BUFFER, 5, 7), sight(SKB, BUFFER, &[]), segment(BUFFER, 6, 8)]), [1, 2, 2]);
        // And what most packets have in common is no reason to take them for one.
        let (first, second) =
            (sight(SKB, BUFFER, &[("protocol", 6), ("seq", 1)]), sight(SKB, BUFFER, &[("protocol", 6)]));
        assert_eq!(one_by_one(&[first, second]), [1, 2]);
    }

    #[test]
    fn a_packet_that_moved_to_another_buffer_is_known_by_its_sk_buff_or_by_all_that_it_says() {
        let moved = segment(BUFFER + 4096, 5, 7);
        let copied = Sight { skb: SKB + 512, ..segment(BUFFER + 8192, 5, 7) };
        assert_eq!(one_by_one(&[segment(BUFFER, 5, 7), moved, copied]), [1, 1, 1]);
        let elsewhere =
            Sight { ends: Some(("x:1".into(), "b:2".into())), skb: SKB + 512, ..segment(BUFFER + 64, 5, 7) };
        assert_eq!(one_by_one(&[segment(BUFFER, 5, 7), elsewhere]), [1, 2]);
        // Where nobody counts packets (IP id 0 is left out), equal ones may well be two.
        let reset = |skb, buffer| sight(skb, buffer, &[("protocol", 6), ("seq", 0), ("ack", 9)]);
        assert_eq!(one_by_one(&[reset(SKB, BUFFER), reset(SKB + 512, BUFFER + 4096)]), [1, 2]);
    }

    #[test]
    fn what_is_in_one_buffer_at_one_moment_is_one_packet() {
        let mut follower = Follower::default();
        let original = Sight { skb: SKB + 256, buffer: BUFFER, ..Sight::default() };
        let sights = [segment(BUFFER, 5, 7), segment(BUFFER + 4096, 5, 9), original.clone(), segment(BUFFER, 6, 8)];
        assert_eq!(follower.numbers(&sights), [1, 2, 1, 1]);
        assert_eq!(follower.numbers(&[original]), [3], "at another moment the buffer may be another packet's");
    }

    #[test]
    fn what_was_seen_long_ago_is_forgotten() {
        let mut follower = Follower::default();
        for number in 0..3 * MANY as u64 {
            assert_eq!(follower.numbers(&[segment(BUFFER + number * 4096, 1, number)]), [number + 1]);
        }
        assert_eq!(follower.known.len(), MANY);
    }
}
