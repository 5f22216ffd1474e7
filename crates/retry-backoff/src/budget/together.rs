//! The four rules, when what they count is counted over a fleet.

use buttress_core::Moment;

use super::{
    State, Strain,
    purse::{Drawn, Purse},
    throttle, tokens,
};

impl State {
    /// What this instance has drawn. Of gRPC's rule twice as much, for half of it decides.
    pub(super) fn drawn(&mut self, now: impl FnOnce() -> Moment) -> Drawn {
        let drawn = match self {
            Self::Tokens(tokens) => tokens.drawn(now()),
            Self::Throttle(throttle) => whole(throttle.drawn().saturating_mul(2)),
            Self::Quota(quota) => quota.drawn().into(),
            Self::Share(share) => share.retries().into(),
        };
        let calls = match self {
            Self::Share(share) => share.calls().into(),
            _ => 0,
        };
        Drawn { drawn, calls }
    }

    /// What is left of what all may draw, when so much has been drawn, by one of so many parts.
    pub(super) fn free(&self, all: Drawn, parts: i64) -> i64 {
        let most = match self {
            Self::Tokens(tokens) => tokens.reserve() / parts.max(1),
            Self::Throttle(throttle) => whole(throttle.max()) / parts.max(1),
            // A part that pays for no retry would be none.
            Self::Quota(quota) => {
                let part = i64::from(quota.capacity()) / parts.max(1);
                part.max(quota.cheapest().into())
            }
            Self::Share(share) => share.most_with(all.calls, parts),
        };
        most.saturating_sub(all.drawn)
    }

    /// What must be left for a retry.
    pub(super) fn least(&self) -> i64 {
        match self {
            Self::Tokens(_) => tokens::TOKEN,
            Self::Quota(quota) => quota.cheapest().into(),
            Self::Throttle(_) | Self::Share(_) => 1,
        }
    }

    /// Whether a retry after such a failure may be made.
    pub(super) fn fits(
        &mut self,
        purse: &Purse,
        strain: Strain,
        now: impl FnOnce() -> Moment,
    ) -> bool {
        let own = self.drawn(now);
        let cost = match self {
            Self::Quota(quota) => quota.cost(strain).into(),
            _ => self.least(),
        };
        let free = self.free(own.plus(purse.others()), purse.parts());
        free >= cost && purse.is_under_ceiling(own.drawn.saturating_add(cost))
    }

    /// How many retries of the cheapest kind would be paid for now.
    pub(super) fn available_of(&mut self, purse: &Purse, now: Moment) -> u64 {
        let own = self.drawn(|| now);
        let free = self.free(own.plus(purse.others()), purse.parts());
        let left = free.min(purse.left(own.drawn));
        let each = match self {
            // Each that fails takes a token of two halves.
            Self::Throttle(_) => whole(2 * throttle::TOKEN),
            _ => self.least(),
        };
        let retries = match self {
            Self::Throttle(_) => left.saturating_add(each - 1) / each,
            _ => left / each,
        };
        u64::try_from(retries).unwrap_or(0)
    }

    /// What others say they have drawn, held to what is possible.
    #[cfg(feature = "fleet")]
    pub(super) fn believable(&self, said: Drawn) -> Drawn {
        const MOST: i64 = 1 << 50;
        let drawn = match self {
            Self::Tokens(_) => said.drawn.clamp(-MOST, MOST),
            Self::Throttle(throttle) => said.drawn.clamp(0, whole(2 * throttle.max())),
            Self::Quota(quota) => said.drawn.clamp(0, quota.capacity().into()),
            Self::Share(_) => said.drawn.clamp(0, MOST),
        };
        let calls = said.calls.clamp(0, MOST);
        Drawn { drawn, calls }
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
