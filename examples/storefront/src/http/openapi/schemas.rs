//! What stands in bodies.

use buttress_error_envelope::openapi;
use utoipa::openapi::{
    ArrayBuilder, Components, ComponentsBuilder, ObjectBuilder, RefOr, Schema, Type,
    schema::SchemaType,
};

pub(super) fn components() -> Components {
    let own = [
        (
            "Health",
            object([("status", text()), ("degraded?", list(text()))]),
        ),
        ("Product", product([("stock", integer())])),
        ("ProductView", product([])),
        (
            "ProductChange",
            object([
                ("name?", text()),
                ("price?", integer()),
                ("stock?", integer()),
            ]),
        ),
        (
            "NewOrder",
            object([
                ("customer", text()),
                (
                    "items",
                    list(object([("product_id", text()), ("quantity", integer())])),
                ),
                ("payment_method", one_of(&["pm_ok", "pm_declined"])),
            ]),
        ),
        ("Order", order()),
        (
            "Quote",
            object([
                ("country", text()),
                ("quantity", integer()),
                ("price", integer()),
                ("carrier", text()),
            ]),
        ),
        (
            "Event",
            object([
                ("seq", integer()),
                ("id", text()),
                (
                    "type",
                    one_of(&["order.placed", "order.confirmed", "order.cancelled"]),
                ),
                ("subject", text()),
                ("time", text()),
            ]),
        ),
        (
            "EventsMeta",
            object([("next_after", or_null(Type::Integer))]),
        ),
        ("PageMeta", object([("next_cursor", or_null(Type::String))])),
        ("Ledger", object([("charges", list(charge()))])),
        (
            "Fault",
            object([
                (
                    "target",
                    one_of(&["payments", "carrier", "shipments", "subscriber"]),
                ),
                ("mode", one_of(&["ok", "error", "slow", "hang", "lost"])),
                ("rate?", number()),
                ("latency_ms?", integer()),
            ]),
        ),
    ];
    let components = openapi::components(ComponentsBuilder::new());
    own.into_iter()
        .fold(components, |all, (name, schema)| all.schema(name, schema))
        .build()
}

fn product<const N: usize>(more: [(&str, RefOr<Schema>); N]) -> RefOr<Schema> {
    let own = [
        ("id", text()),
        ("name", text()),
        ("price", integer()),
        ("version", integer()),
    ];
    object(own.into_iter().chain(more))
}

fn order() -> RefOr<Schema> {
    let item = object([
        ("product_id", text()),
        ("quantity", integer()),
        ("price", integer()),
    ]);
    let states = ["pending", "running", "done", "failed", "undone", "unknown"];
    let step = object([
        ("name", one_of(&["reserve", "charge", "ship", "confirm"])),
        ("state", one_of(&states)),
        ("attempts", integer()),
    ]);
    object([
        ("id", text()),
        ("customer", text()),
        ("items", list(item)),
        ("total", integer()),
        ("created_at", text()),
        (
            "status",
            one_of(&["pending", "confirmed", "cancelled", "needs_attention"]),
        ),
        ("reason", or_null(Type::String)),
        ("steps", list(step)),
    ])
}

fn charge() -> RefOr<Schema> {
    object([
        ("seq", integer()),
        ("order_id", text()),
        ("amount", integer()),
        ("refunded", integer()),
    ])
}

/// A `?` at the end of a name says that it may be absent.
fn object<'a>(members: impl IntoIterator<Item = (&'a str, RefOr<Schema>)>) -> RefOr<Schema> {
    let member = |object: ObjectBuilder, (name, schema): (&str, _)| match name.strip_suffix('?') {
        Some(name) => object.property(name, schema),
        None => object.property(name, schema).required(name),
    };
    let object = members.into_iter().fold(ObjectBuilder::new(), member);
    Schema::from(object).into()
}

fn list(items: RefOr<Schema>) -> RefOr<Schema> {
    Schema::from(ArrayBuilder::new().items(items)).into()
}

fn text() -> RefOr<Schema> {
    of(Type::String)
}

fn integer() -> RefOr<Schema> {
    of(Type::Integer)
}

fn number() -> RefOr<Schema> {
    of(Type::Number)
}

fn of(kind: Type) -> RefOr<Schema> {
    Schema::from(ObjectBuilder::new().schema_type(kind)).into()
}

fn or_null(kind: Type) -> RefOr<Schema> {
    let kind = SchemaType::Array(vec![kind, Type::Null]);
    Schema::from(ObjectBuilder::new().schema_type(kind)).into()
}

fn one_of(words: &[&str]) -> RefOr<Schema> {
    let words = words.iter().copied();
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words));
    Schema::from(schema).into()
}
