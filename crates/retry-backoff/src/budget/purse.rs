//! What one instance may spend of a budget that a fleet shares. Told what the others have drawn.
//!
//! Between two exchanges nobody knows what the others spend. So each spends no more than its part
//! of what was left when it last heard of them: whatever they do, the fleet as a whole spends at
//! most one budget too much.

/// What has been drawn from a budget, in its rule's own parts, and the calls under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drawn {
    /// Less than nothing where more has been brought in than taken.
    pub(crate) drawn: i64,
    /// Only where the rule counts them.
    pub(crate) calls: i64,
}

impl Drawn {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            drawn: self.drawn.saturating_add(other.drawn),
            calls: self.calls.saturating_add(other.calls),
        }
    }
}

/// What is known of the others, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purse {
    /// How many instances there are, this one among them, as was heard last.
    members: u32,
    /// What the others have drawn; nothing while they are not heard.
    others: Drawn,
    /// So much may this one have drawn until it hears of them again; none while it is alone.
    ceiling: Option<i64>,
    /// What the others know that this one has drawn.
    pinned: Option<i64>,
}

impl Purse {
    /// Nobody was heard yet: it is alone, with a whole budget.
    #[cfg(feature = "fleet")]
    pub(crate) const NEW: Self = Self {
        members: 1,
        others: Drawn { drawn: 0, calls: 0 },
        ceiling: None,
        pinned: None,
    };

    /// Into how many parts what is there always is divided: it is one budget while all are heard,
    /// and each one's part of it while none is.
    pub(super) const fn parts(&self) -> i64 {
        match self.ceiling {
            Some(_) => 1,
            None => self.members as i64,
        }
    }

    pub(super) const fn others(&self) -> Drawn {
        self.others
    }

    pub(super) fn is_under_ceiling(&self, drawn: i64) -> bool {
        self.ceiling.is_none_or(|ceiling| drawn <= ceiling)
    }

    /// So much more may be drawn before the others are heard again.
    pub(super) fn left(&self, drawn: i64) -> i64 {
        self.ceiling.map_or(i64::MAX, |it| it.saturating_sub(drawn))
    }

    /// The others were heard. `free` is what is left when all has been counted, `own` what this one
    /// has drawn itself, `least` what the cheapest retry costs; `pinned` is what it had drawn when
    /// it told them, if that is what they know now. What was drawn since, while the answer was on
    /// its way, is of the new part: more than one part the others never leave out.
    #[cfg(feature = "fleet")]
    pub(super) fn hear(
        &mut self,
        (members, others): (u32, Drawn),
        pinned: Option<i64>,
        own: i64,
        free: i64,
        least: i64,
    ) {
        let part = match free >= least {
            false => 0,
            // Rounded up to one retry, else a fleet larger than its budget would make none.
            true => (free / i64::from(members.max(1))).max(least),
        };
        let pinned = pinned.or(self.pinned);
        *self = Self {
            members: members.max(1),
            others,
            ceiling: Some(pinned.unwrap_or(own).saturating_add(part)),
            pinned,
        };
    }

    /// They are not heard any more.
    #[cfg(feature = "fleet")]
    pub(super) const fn be_alone(&mut self) {
        self.others = Drawn { drawn: 0, calls: 0 };
        self.ceiling = None;
    }
}
