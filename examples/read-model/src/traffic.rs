//! Customers: commands by chance, and what they come to, folded as they are given.

use buttress_core::Class;
use rand::RngExt as _;

use crate::{
    commands::{CommandError, Shop},
    queries::Customers,
};

const NAMES: [&str; 5] = ["Ada", "Barbara", "Edsger", "Grace", "Tony"];
/// So many orders are open at once, about.
const OPEN: usize = 12;

struct Open {
    id: String,
    customer: &'static str,
    total: i64,
}

/// Gives commands, and remembers what must come of them.
pub struct Traffic {
    shop: Shop,
    open: Vec<Open>,
    folded: Customers,
    done: u64,
}

impl std::fmt::Debug for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traffic").finish_non_exhaustive()
    }
}

impl Traffic {
    /// To this shop. Nothing was done yet.
    #[must_use]
    pub const fn new(shop: Shop) -> Self {
        Self {
            shop,
            open: Vec::new(),
            folded: Customers::new(),
            done: 0,
        }
    }

    /// One command.
    ///
    /// # Errors
    ///
    /// [`CommandError`]: it may have been done, so what is folded is worth nothing any more.
    pub async fn command(&mut self) -> Result<(), CommandError> {
        let (which, what) = {
            let mut rng = rand::rng();
            let which = rng.random_range(0..self.open.len().max(1));
            let most = if self.open.len() < OPEN { 12 } else { 7 };
            (which, rng.random_range(0..most))
        };
        match what {
            _ if self.open.is_empty() => self.place().await?,
            0..=3 => {
                let (quantity, price) = {
                    let mut rng = rand::rng();
                    (rng.random_range(1..5), rng.random_range(100..2000))
                };
                self.shop.add(&self.open[which].id, quantity, price).await?;
                self.open[which].total += quantity * price;
            }
            4 | 5 => {
                let order = self.open.swap_remove(which);
                again(async || self.shop.ship(&order.id).await).await?;
                let customer = self.folded.entry(order.customer.to_owned()).or_default();
                customer.open -= 1;
                customer.shipped += 1;
                customer.spent += order.total;
            }
            6 => {
                let order = self.open.swap_remove(which);
                again(async || self.shop.cancel(&order.id).await).await?;
                let customer = self.folded.entry(order.customer.to_owned()).or_default();
                customer.open -= 1;
                customer.cancelled += 1;
            }
            _ => self.place().await?,
        }
        self.done += 1;
        Ok(())
    }

    async fn place(&mut self) -> Result<(), CommandError> {
        let customer = NAMES[rand::rng().random_range(0..NAMES.len())];
        let id = again(async || self.shop.place(customer).await).await?;
        self.open.push(Open {
            id,
            customer,
            total: 0,
        });
        self.folded.entry(customer.to_owned()).or_default().open += 1;
        Ok(())
    }

    /// What all commands come to.
    #[must_use]
    pub const fn folded(&self) -> &Customers {
        &self.folded
    }

    /// How many there were.
    #[must_use]
    pub const fn done(&self) -> u64 {
        self.done
    }
}

/// Tries again what was not done: another process had the write lock for too long.
async fn again<T>(
    mut command: impl AsyncFnMut() -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match command().await {
            Err(CommandError::Store(error)) if error.class() == Class::NotDone && tries < 10 => {}
            result => return result,
        }
    }
}
