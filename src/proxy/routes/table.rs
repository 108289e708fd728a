//! Where to look among many routes: by host, and by the literal beginning of the path. It only names candidates, in the order of the
//! file; whether one takes a request is asked of the route itself.
//!
//! Invariant: every route that takes a request is among its candidates, so that the first of those that takes it is the first of all.
//! Nothing is asked by hash alone: a collision makes one candidate more.

use super::{Question, passed_over};
use crate::config::runtime::{Config, HostPattern, Match, Route};
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

/// So many are asked one by one: that costs less than looking up a host and a path.
const FEW: usize = 6;

/// FNV-1a (<http://www.isthe.com/chongo/tech/comp/fnv/>): a byte at a time, so that one pass gives the hash of every beginning.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Of a host that any pattern of a host takes.
const ANY_HOST: u64 = 1;

/// Mixed into the hash of a whole path, so that it is not that of a beginning.
const WHOLE: u64 = 0x9e37_79b9_7f4a_7c15;

type Numbers = HashMap<u64, Vec<usize>, BuildHasherDefault<Hashed>>;

/// The keys are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl std::hash::Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = step(self.0, *byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash.wrapping_mul(WHOLE).rotate_left(32);
    }
}

/// The routes of one configuration, by where requests for them begin.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Table {
    /// By host and beginning; empty where there are few routes.
    numbers: Numbers,
    /// Hosts, and ends of hosts, that some route names.
    hosts: HashSet<u64, BuildHasherDefault<Hashed>>,
    any_host: bool,
    /// Bit n: some route's literal beginning has n slashes.
    depths: u32,
    whole: bool,
}

/// Slashes that are counted; a literal that has more is cut there.
const DEEPEST: u32 = 15;

/// The first route in the order of the file that takes a request, as far as it has been looked for.
struct Search<'a, T> {
    table: &'a Table,
    path: &'a str,
    takes: T,
    first: usize,
}

impl<T: Fn(usize) -> bool> Search<'_, T> {
    fn under(&mut self, host: u64) {
        let (depths, path) = (self.table.depths, self.path);
        let (mut hash, mut depth) = (OFFSET, 0);
        if depths & 1 != 0 {
            self.among(host, hash);
        }
        for byte in path.bytes() {
            hash = step(hash, byte);
            if byte == b'/' && depth < DEEPEST {
                depth += 1;
                if depths >> depth & 1 != 0 {
                    self.among(host, hash);
                }
            }
        }
        if self.table.whole {
            self.among(host, hash ^ WHOLE);
        }
    }

    fn among(&mut self, host: u64, beginning: u64) {
        let numbers = self.table.numbers.get(&(host ^ beginning)).into_iter().flatten();
        for number in numbers.take_while(|number| **number < self.first) {
            if (self.takes)(*number) {
                self.first = *number;
                return;
            }
        }
    }
}

impl Table {
    pub(in crate::proxy) fn new(config: &Config) -> Self {
        if config.routes.len() <= FEW {
            return Self::default();
        }
        Self::of(config.routes.iter().map(|route| &route.matches))
    }

    fn of<'a>(all: impl Iterator<Item = &'a Match>) -> Self {
        let mut table = Self::default();
        all.enumerate().for_each(|(number, matches)| table.add(number, matches));
        table
    }

    fn add(&mut self, number: usize, matches: &Match) {
        let host = match &matches.host {
            None => ANY_HOST,
            Some(HostPattern::Exact(name) | HostPattern::Suffix(name)) => hash_of_host(name),
        };
        match matches.host {
            None => self.any_host = true,
            Some(_) => drop(self.hosts.insert(host)),
        }
        let beginning = match matches.path.as_ref().map(|path| path.literal()) {
            None => {
                self.depths |= 1;
                OFFSET
            }
            Some((literal, true)) => {
                self.whole = true;
                literal.bytes().fold(OFFSET, step) ^ WHOLE
            }
            Some((literal, false)) => {
                let (mut beginning, mut hash, mut depth) = (OFFSET, OFFSET, 0);
                for byte in literal.bytes() {
                    hash = step(hash, byte);
                    if byte == b'/' && depth < DEEPEST {
                        (beginning, depth) = (hash, depth + 1);
                    }
                }
                self.depths |= 1 << depth;
                beginning
            }
        };
        self.numbers.entry(host ^ beginning).or_default().push(number);
    }

    /// The first route that takes the request.
    pub(in crate::proxy) fn find<'a>(&self, config: &'a Config, question: &Question<'_>) -> Option<&'a Arc<Route>> {
        if self.numbers.is_empty() {
            return config
                .routes
                .iter()
                .find(|route| passed_over(route, question).is_none());
        }
        let routes = &config.routes;
        let takes = |number| {
            routes
                .get(number)
                .is_some_and(|route: &Arc<Route>| passed_over(route, question).is_none())
        };
        routes.get(self.first(question.host, question.path, takes)?)
    }

    /// The first number that `takes` says yes to.
    fn first(&self, host: &str, path: &str, takes: impl Fn(usize) -> bool) -> Option<usize> {
        let mut search = Search {
            table: self,
            path,
            takes,
            first: usize::MAX,
        };
        if self.any_host {
            search.under(ANY_HOST);
        }
        if !self.hosts.is_empty() {
            // From the end, which hashes every end of it on the way: a pattern's suffix begins with its dot.
            let mut hash = OFFSET;
            for (at, byte) in host.bytes().enumerate().rev() {
                hash = step(hash, byte);
                if (byte == b'.' || at == 0) && self.hosts.contains(&hash) {
                    search.under(hash);
                }
            }
        }
        (search.first != usize::MAX).then_some(search.first)
    }
}

/// From its end.
fn hash_of_host(name: &str) -> u64 {
    name.bytes().rev().fold(OFFSET, step)
}

fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(PRIME)
}

#[cfg(test)]
mod tests;
