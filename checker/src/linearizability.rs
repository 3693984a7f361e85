//! Checks whether the results for one key could have come from one copy that does one operation at
//! a time (the search of Wing and Gong, with Lowe's memory of states that were tried).
//!
//! The search orders the operations one after the other. An operation may come next under two
//! conditions: no operation that is still to come returned before this one was invoked, and the
//! model gives the result that the client got. An operation of unknown outcome never returned, and
//! need not come at all. Within a lane an operation comes after all earlier ones that were done
//! (safety E1, E2). The place where an operation was seen to take effect only decides what the
//! search tries first; it excuses nothing. The first order that is tried is that of the log itself
//! (`log_order`): in a correct run no search is needed after it.
//!
//! Three rules keep the search short, and none of them loses an order. An operation that changes
//! nothing and fits now is ordered now, whatever else could come. An operation of unknown outcome
//! is not ordered when the next operation hides its effect. And a state is not tried again with the
//! same answered operations and at least the same unknown ones.

use super::{
    history::{History, Moment, Operation, Told, last_before},
    log_order,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

pub use super::model::Model;

/// What the search found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// There is an order that explains all answers.
    Linearizable,
    /// There is none.
    Violation(Violation),
    /// The budget was used up before either was found.
    Inconclusive {
        /// The key at which it was.
        key: Bytes,
    },
}

/// Why no order explains the answers of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The key.
    pub key: Bytes,
    /// The longest order that was found, and the state after it.
    pub explained: Vec<String>,
    /// That state.
    pub state: String,
    /// The operations of which none could come next.
    pub unexplained: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 12;
        writeln!(f, "key {:?} is not linearizable", self.key)?;
        let skipped = self.explained.len().saturating_sub(SHOWN);
        writeln!(f, "after {skipped} operations that can be explained, and then")?;
        for operation in &self.explained[skipped..] {
            writeln!(f, "  {operation}")?;
        }
        writeln!(f, "the state is {}, and none of these can come next:", self.state)?;
        for operation in &self.unexplained {
            writeln!(f, "  {operation}")?;
        }
        Ok(())
    }
}

/// Checks each key of a history by itself, with at most `budget` steps for each. A violation of one
/// key is found even if another key is inconclusive.
pub fn check<M: Model>(model: &M, history: &History<M::Input, M::Output>, budget: u64) -> Verdict {
    let mut verdict = Verdict::Linearizable;
    for (key, operations) in history.by_key() {
        match check_key(model, key, &operations, budget) {
            Verdict::Linearizable => {}
            Verdict::Violation(violation) => return Verdict::Violation(violation),
            inconclusive => verdict = inconclusive,
        }
    }
    verdict
}

/// Checks the operations of one key, with at most `budget` steps.
pub fn check_key<M: Model>(
    model: &M,
    key: &Bytes,
    operations: &[&Operation<M::Input, M::Output>],
    budget: u64,
) -> Verdict {
    // Of a good run this is all there is to do.
    if log_order::explains(model, operations) {
        return Verdict::Linearizable;
    }
    let mut search = Search::new(model, operations);
    match search.run(budget) {
        Found::Order => Verdict::Linearizable,
        Found::None => Verdict::Violation(search.violation(key)),
        Found::BudgetUsed => Verdict::Inconclusive { key: key.clone() },
    }
}

enum Found {
    Order,
    None,
    BudgetUsed,
}

struct Search<'a, M: Model> {
    model: &'a M,
    /// What must be ordered, by invocation; after it what may be.
    items: Vec<Item<'a, M>>,
    /// How many of them must be.
    definite: usize,
    /// The definite ones by their return.
    by_return: Vec<usize>,
    /// What is ordered so far, as a set and in its order.
    ordered: BitSet,
    order: Vec<usize>,
    definite_ordered: usize,
    state: M::State,
    /// The answered operations of orders that were tried, the states after them, and the unknown
    /// operations in them.
    tried: HashMap<(BitSet, M::State), Vec<BitSet>>,
    /// The longest order so far, and its state.
    longest: (Vec<usize>, M::State),
    longest_definite: usize,
}

/// An operation that had, or may have had, an effect.
struct Item<'a, M: Model> {
    operation: &'a Operation<M::Input, M::Output>,
    /// None may be ordered anywhere, or not at all.
    answer: Option<&'a M::Output>,
    /// The place of an equal operation of unknown outcome before this one: they stand for each other,
    /// so that the earlier one is always ordered first.
    twin: Option<usize>,
    /// The last answered operation before it in its lane: it comes first.
    after: Option<usize>,
    /// Where it was seen to take effect.
    seen_at: Option<u64>,
}

impl<M: Model> Item<'_, M> {
    /// The lower, the sooner it is tried, when all that was seen up to `reached` has come. What is in
    /// doubt and was passed over had no effect at its place.
    fn rank(&self, reached: Option<u64>) -> u64 {
        match self.answer {
            Some(_) => self.seen_at.unwrap_or(0),
            None => self.seen_at.filter(|place| Some(*place) > reached).unwrap_or(u64::MAX),
        }
    }
}

/// A point of the search: its state, and what may come next there and was not tried.
struct Frame<S> {
    candidates: Vec<usize>,
    state: S,
    /// No definite item below this place is unordered, and none of `by_return`.
    settled: usize,
    settled_returns: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &[&'a Operation<M::Input, M::Output>]) -> Self {
        let mut lanes = BTreeMap::new();
        let mut items: Vec<Item<'a, M>> = Vec::new();
        let answered = |it: &&&'a Operation<M::Input, M::Output>| matches!(it.told, Told::Done(_));
        let mut by_invocation: Vec<_> = operations.iter().filter(answered).copied().collect();
        by_invocation.sort_by_key(|operation| operation.invoked);
        for operation in by_invocation {
            let Told::Done(answer) = &operation.told else { continue };
            let after = last_before(&lanes, operation);
            if let Some(lane) = operation.lane {
                lanes.insert((lane, operation.invoked), items.len());
            }
            let seen_at = operation.seen_at;
            items.push(Item { operation, answer: Some(answer), twin: None, after, seen_at });
        }
        let definite = items.len();
        let mut by_return: Vec<_> = (0..definite).collect();
        by_return.sort_by_key(|&place| items[place].operation.returned);
        let unknown = operations.iter().filter(|operation| operation.told == Told::Unknown);
        for operation in unknown {
            let after = last_before(&lanes, operation);
            // An equal one that may come no later than this one stands for it.
            let equal = |item: &Item<'a, M>| {
                item.operation.input == operation.input
                    && (item.after.is_none() || item.after == after)
            };
            let twin = items[definite..].iter().rposition(equal).map(|place| definite + place);
            let seen_at = operation.seen_at;
            items.push(Item { operation, answer: None, twin, after, seen_at });
        }
        share_places(&mut items[definite..], definite);
        Self {
            model,
            ordered: BitSet::new(items.len()),
            items,
            definite,
            by_return,
            order: Vec::new(),
            definite_ordered: 0,
            state: model.initial(),
            tried: HashMap::new(),
            longest: (Vec::new(), model.initial()),
            longest_definite: 0,
        }
    }

    fn run(&mut self, budget: u64) -> Found {
        let mut frames = vec![self.frame(0, 0)];
        for _ in 0..budget {
            if self.definite_ordered == self.definite {
                return Found::Order;
            }
            let [before @ .., frame] = &mut frames[..] else { return Found::None };
            let (settled, settled_returns) = (frame.settled, frame.settled_returns);
            if let Some(place) = frame.candidates.pop() {
                let before = before.last().map(|frame| &frame.state);
                if !self.hides_the_last(place, before) && self.advance(place) {
                    frames.push(self.frame(settled, settled_returns));
                }
                continue;
            }
            frames.pop();
            match frames.last() {
                Some(frame) => self.go_back(frame.state.clone()),
                None => return Found::None,
            }
        }
        Found::BudgetUsed
    }

    /// Whether the last item ordered is of unknown outcome, and all is as without it when this one comes
    /// now: then it need not have come. `before` is the state before it.
    fn hides_the_last(&self, place: usize, before: Option<&M::State>) -> bool {
        let (Some(&last), Some(before)) = (self.order.last(), before) else { return false };
        let item = &self.items[place];
        if last < self.definite || item.twin == Some(last) {
            return false;
        }
        let (with, output) = self.model.step(&self.state, &item.operation.input);
        let (without, other) = self.model.step(before, &item.operation.input);
        with == without && (item.answer.is_none() || output == other)
    }

    /// Orders an item next, if the model agrees and this was not tried before.
    fn advance(&mut self, place: usize) -> bool {
        let item = &self.items[place];
        let (next, output) = self.model.step(&self.state, &item.operation.input);
        let fits = match item.answer {
            Some(answer) => *answer == output,
            // Without an effect it may as well not come.
            None => next != self.state,
        };
        if !fits {
            return false;
        }
        self.ordered.insert(place);
        if !self.is_new(&next) {
            self.ordered.remove(place);
            return false;
        }
        self.state = next;
        self.order.push(place);
        self.definite_ordered += usize::from(place < self.definite);
        if self.definite_ordered > self.longest_definite {
            self.longest_definite = self.definite_ordered;
            self.longest = (self.order.clone(), self.state.clone());
        }
        true
    }

    /// Notes the set of ordered items and the state after them; false when what could follow was tried.
    fn is_new(&mut self, state: &M::State) -> bool {
        let (answered, unknown) = self.ordered.split(self.definite);
        let tried = self.tried.entry((answered, state.clone())).or_default();
        if tried.iter().any(|used| used.is_subset(&unknown)) {
            return false;
        }
        tried.retain(|used| !unknown.is_subset(used));
        tried.push(unknown);
        true
    }

    fn go_back(&mut self, state: M::State) {
        let place = self.order.pop().expect("as many as frames");
        self.ordered.remove(place);
        self.definite_ordered -= usize::from(place < self.definite);
        self.state = state;
    }

    /// What may come next, the best last: reads, then writes in the order in which they were seen to take
    /// effect, then what nobody saw.
    fn frame(&self, mut settled: usize, mut settled_returns: usize) -> Frame<M::State> {
        while settled < self.definite && self.ordered.contains(settled) {
            settled += 1;
        }
        let ordered = |returns: usize| self.ordered.contains(self.by_return[returns]);
        while settled_returns < self.definite && ordered(settled_returns) {
            settled_returns += 1;
        }
        let first_return: Moment = match self.by_return.get(settled_returns) {
            Some(&place) => self.items[place].operation.returned.expect("it was answered"),
            None => Moment::MAX,
        };
        let may_come = |place: &usize| {
            let item = &self.items[*place];
            !self.ordered.contains(*place)
                && item.operation.invoked < first_return
                && item.twin.is_none_or(|twin| self.ordered.contains(twin))
                && item.after.is_none_or(|after| self.ordered.contains(after))
        };
        let in_time = self.items[settled..self.definite]
            .iter()
            .take_while(|item| item.operation.invoked < first_return)
            .count();
        let definite = settled..settled + in_time;
        if let Some(place) = definite.clone().find(|place| may_come(place) && self.is_idle(*place))
        {
            let candidates = vec![place];
            return Frame { candidates, state: self.state.clone(), settled, settled_returns };
        }
        let candidates = definite.chain(self.definite..self.items.len()).filter(may_come);
        let mut candidates: Vec<_> = candidates.collect();
        let reached = self.order.iter().rev().find_map(|&it| self.items[it].seen_at);
        candidates
            .sort_by_key(|&place| std::cmp::Reverse((self.items[place].rank(reached), place)));
        Frame { candidates, state: self.state.clone(), settled, settled_returns }
    }

    /// Whether an answered item fits now and changes nothing: then it may as well come now.
    fn is_idle(&self, place: usize) -> bool {
        let item = &self.items[place];
        let (next, output) = self.model.step(&self.state, &item.operation.input);
        next == self.state && item.answer == Some(&output)
    }

    fn violation(&self, key: &Bytes) -> Violation {
        let (order, state) = &self.longest;
        let mut rest = BitSet::new(self.items.len());
        order.iter().for_each(|&place| rest.insert(place));
        let unordered = |place: &&usize| !rest.contains(**place);
        let first_return = self
            .by_return
            .iter()
            .find(unordered)
            .map(|&place| self.items[place].operation.returned.expect("it was answered"));
        let stuck = self.items.iter().enumerate().filter(|(place, item)| {
            !rest.contains(*place) && Some(item.operation.invoked) < first_return
        });
        Violation {
            key: key.clone(),
            explained: order.iter().map(|&it| self.items[it].operation.to_string()).collect(),
            state: format!("{state:?}"),
            unexplained: stuck.map(|(_, item)| item.operation.to_string()).collect(),
        }
    }
}

/// Twins stand for each other, and the earlier comes first: so it takes the first of the places at which
/// any of them was seen. `items` begin at the place `first` of all.
fn share_places<M: Model>(items: &mut [Item<'_, M>], first: usize) {
    let mut chains: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut chain_of: Vec<usize> = Vec::new();
    for (place, item) in items.iter().enumerate() {
        let chain = item.twin.map_or(place, |twin| chain_of[twin - first]);
        chain_of.push(chain);
        chains.entry(chain).or_default().push(place);
    }
    for chain in chains.into_values() {
        let mut seen: Vec<_> = chain.iter().filter_map(|&place| items[place].seen_at).collect();
        seen.sort_unstable();
        let mut seen = seen.into_iter();
        chain.iter().for_each(|&place| items[place].seen_at = seen.next());
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct BitSet(Vec<u64>);

impl BitSet {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    fn contains(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn remove(&mut self, place: usize) {
        self.0[place / 64] &= !(1 << (place % 64));
    }

    /// What is below `place`, and the rest.
    fn split(&self, place: usize) -> (Self, Self) {
        let (word, mask) = (place / 64, (1_u64 << (place % 64)) - 1);
        let mut below = Self(self.0[..self.0.len().min(word + 1)].to_vec());
        let mut rest = Self(self.0[word.min(self.0.len())..].to_vec());
        if let (Some(last), true) = (below.0.get_mut(word), word < self.0.len()) {
            *last &= mask;
        }
        if let Some(first) = rest.0.first_mut() {
            *first &= !mask;
        }
        (below, rest)
    }

    /// Whether `other`, of equal length, has all that this has.
    fn is_subset(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(one, other)| one & !other == 0)
    }
}
