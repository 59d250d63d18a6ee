//! What each slot reads in a pass, which parts share one, and whose logits are wanted of it.

use std::ops::Range;

use ft_kernels::FEW_ROWS;

use super::Model;
use super::request::Request;
use super::slot::Slot;

/// Tokens of a part of a prompt begin at multiples of this, where rounding depends on the number of rows.
pub(super) const BLOCK: usize = 64;
/// The same with an adapter, where each part is a pass of its own.
pub(super) const ADAPTED_BLOCK: usize = 128;

impl Model {
    /// Where parts of a prompt may begin: multiples of this.
    pub(super) fn block(&self) -> usize {
        match (self.free, self.adapted) {
            (true, _) => 1,
            (false, false) => BLOCK,
            (false, true) => ADAPTED_BLOCK,
        }
    }
}

/// What one slot reads in a pass.
pub(super) struct Part {
    pub(super) slot: usize,
    pub(super) ids: Vec<u32>,
    /// Positions of the prompt; empty for a token of the answer.
    pub(super) prompt: Range<usize>,
}

/// What all slots read next: a token of each answer under way, and at most `budget` tokens of prompts.
pub(super) fn planned(slots: &[Slot], budget: usize) -> Vec<Part> {
    let mut parts = Vec::with_capacity(slots.len());
    let mut budget = budget.max(ADAPTED_BLOCK);
    for (at, slot) in slots.iter().enumerate() {
        if let Some(last) = slot.last {
            parts.push(Part { slot: at, ids: vec![last], prompt: 0..0 });
            continue;
        }
        let model = &slot.model;
        let block = model.block();
        let most = if model.adapted && !model.free { block } else { budget / block * block };
        let take = slot.prompt_left().min(most);
        if take == 0 || take > budget {
            continue;
        }
        // A short tail is a part of its own, as it is when all before it was known already.
        let tail = (slot.read + take) % block;
        let take = if take > tail && tail <= FEW_ROWS { take - tail } else { take };
        budget -= take;
        let prompt = slot.read..slot.read + take;
        let ids = slot.request().prompt[prompt.clone()].to_vec();
        parts.push(Part { slot: at, ids, prompt });
    }
    parts
}

/// Parts that are read in one pass: of one model, and if its rows are not free, with few rows or with many.
pub(super) fn grouped(slots: &[Slot], parts: Vec<Part>) -> Vec<Vec<Part>> {
    struct Group {
        model: u64,
        few: bool,
        rows: usize,
        /// Rows that it may have.
        most: usize,
        parts: Vec<Part>,
    }
    let mut groups: Vec<Group> = Vec::new();
    for part in parts {
        let model = &slots[part.slot].model;
        let rows = part.ids.len();
        let few = !model.free && rows <= FEW_ROWS;
        let most = match (few, model.adapted && !model.free) {
            (true, _) => FEW_ROWS,
            (false, false) => usize::MAX,
            // An adapter's thin products are made for one part at a time.
            (false, true) => rows,
        };
        let open = groups.iter_mut().find(|group| {
            group.model == model.number && group.few == few && group.rows + rows <= group.most
        });
        match open {
            Some(group) => {
                group.rows += rows;
                group.parts.push(part);
            }
            None => {
                groups.push(Group { model: model.number, few, rows, most, parts: vec![part] });
            }
        }
    }
    groups.into_iter().map(|group| group.parts).collect()
}

/// A row of logits, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) slot: usize,
    /// The token that comes there; none if it is to be chosen.
    pub(super) target: Option<u32>,
    /// Whether it is only computed for those beside it: the last digits of a row's logits depend on the rows of its block.
    pub(super) is_beside: bool,
    /// The block of the prompt that it stands in.
    block: Option<usize>,
}

impl Wanted {
    /// Whether two rows' logits are computed together.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        match (self.block, other.block) {
            (None, None) => true,
            _ => self.slot == other.slot && self.block == other.block,
        }
    }

    pub(super) fn is_choice(&self) -> bool {
        self.block.is_none()
    }
}

/// The first row of a prompt whose logits are computed for its scores: that of a whole block.
pub(super) fn first_row(request: &Request) -> Option<usize> {
    request.score.map(|score| score.from.saturating_sub(1) / BLOCK * BLOCK)
}

/// The rows of a pass whose logits are wanted, and what for. Never no rows, because the decoder gives back at least one.
pub(super) fn rows(slots: &[Slot], parts: &[Part]) -> (Vec<u32>, Vec<Wanted>) {
    let (mut rows, mut wanted) = (Vec::new(), Vec::new());
    let mut start = 0;
    for part in parts {
        let request = slots[part.slot].request();
        let row = |offset: usize| {
            u32::try_from(start + offset).expect("a pass has fewer than 2³² tokens")
        };
        if let Some(first) = first_row(request) {
            for position in part.prompt.clone() {
                let Some(target) = request.prompt.get(position + 1) else { continue };
                if position >= first {
                    rows.push(row(position - part.prompt.start));
                    wanted.push(Wanted {
                        slot: part.slot,
                        target: Some(*target),
                        is_beside: request.score.is_some_and(|score| position + 1 < score.from),
                        block: Some(position / BLOCK),
                    });
                }
            }
        }
        let ends = part.prompt.is_empty() || part.prompt.end == request.prompt.len();
        if ends && request.max_new_tokens > 0 {
            rows.push(row(part.ids.len() - 1));
            wanted.push(Wanted { slot: part.slot, target: None, is_beside: false, block: None });
        }
        start += part.ids.len();
    }
    if rows.is_empty() {
        rows.push(0);
    }
    (rows, wanted)
}
