//! What an order is, and the words its states are written in: in the database and on the wire.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(crate) enum OrderStatus {
    Pending,
    Confirmed,
    Cancelled,
    NeedsAttention,
}

/// Why an order was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum CancelReason {
    OutOfStock,
    PaymentDeclined,
    /// The charge was tried without an answer, given up, and cancelled at the payment service.
    PaymentUnavailable,
}

/// The steps of an order, in their order. Up to the charge everything can be undone; after it
/// there is only forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(crate) enum StepName {
    Reserve,
    Charge,
    Ship,
    Confirm,
}

impl StepName {
    pub(crate) const ALL: [Self; 4] = [Self::Reserve, Self::Charge, Self::Ship, Self::Confirm];
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, EnumString, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(crate) enum StepState {
    Pending,
    Running,
    Done,
    Failed,
    Undone,
    /// It may have happened: it was tried and no answer came.
    Unknown,
}

/// How an order is paid, as its customer chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr, EnumString)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub(crate) enum PaymentMethod {
    PmOk,
    PmDeclined,
}

/// What an order's saga is started with: all that its steps need to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) order_id: String,
    pub(crate) total: i64,
    pub(crate) payment_method: PaymentMethod,
    /// The trace in which it was accepted, if it was collected: its steps go on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traceparent: Option<String>,
}

/// An order as it is shown.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) customer: String,
    pub(crate) items: Vec<OrderItem>,
    /// Fixed when the order is accepted, in minor units.
    pub(crate) total: i64,
    pub(crate) created_at: jiff::Timestamp,
    pub(crate) status: OrderStatus,
    pub(crate) reason: Option<CancelReason>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct OrderItem {
    pub(crate) product_id: String,
    pub(crate) quantity: i64,
    /// Of one piece, in minor units.
    pub(crate) price: i64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) name: StepName,
    pub(crate) state: StepState,
    pub(crate) attempts: i64,
}

/// What a customer asks for, after it was checked.
#[derive(Clone, Debug)]
pub(crate) struct NewOrder {
    pub(crate) customer: String,
    pub(crate) items: Vec<NewItem>,
    pub(crate) payment_method: PaymentMethod,
}

#[derive(Clone, Debug)]
pub(crate) struct NewItem {
    pub(crate) product_id: String,
    pub(crate) quantity: i64,
}
