//! validator's errors become field errors.

use buttress_error_envelope::{FieldErrors, Format, Problem};
use validator::{Validate, ValidationError};

#[derive(Validate)]
#[validate(schema(function = "not_both", skip_on_field_errors = false))]
struct Order {
    #[validate(length(min = 1, max = 9), nested)]
    items: Vec<Item>,
    #[validate(length(max = 3))]
    note: String,
    #[validate(email)]
    email: String,
    #[validate(required)]
    name: Option<String>,
    #[validate(custom(function = "odd"))]
    odd: String,
    #[validate(url(message = "must be an address of yours"))]
    url: String,
    #[validate(must_match(other = "email"))]
    again: String,
    #[validate(nested)]
    address: Address,
}

#[derive(serde::Serialize, Validate)]
struct Item {
    #[validate(range(min = 1, max = 100))]
    quantity: u32,
}

#[derive(Validate)]
struct Address {
    #[validate(length(equal = 5))]
    zip: String,
    #[validate(range(exclusive_min = 0.0))]
    height: f64,
    #[validate(length(min = 2))]
    lines: Vec<String>,
}

fn odd(_: &str) -> Result<(), ValidationError> {
    Err(ValidationError::new("odd"))
}

fn not_both(_: &Order) -> Result<(), ValidationError> {
    Err(ValidationError::new("not_both").with_message("name and email exclude each other".into()))
}

fn check(order: &Order) -> Result<(), Problem> {
    order.validate().map_err(FieldErrors::from)?;
    Ok(())
}

#[test]
fn each_error_is_a_field_error_with_its_path_in_words_without_values() {
    let order = Order {
        items: vec![Item { quantity: 1 }, Item { quantity: 101 }],
        note: "c4n4ry".into(),
        email: "c4n4ry".into(),
        name: None,
        odd: "c4n4ry".into(),
        url: "c4n4ry".into(),
        again: "c4n4ry c4n4ry".into(),
        address: Address {
            zip: "c4n4ry".into(),
            height: 0.0,
            lines: vec!["c4n4ry".into()],
        },
    };
    let problem = check(&order).unwrap_err();
    assert_eq!(problem.to_string(), "VALIDATION_FAILED (422)");
    let told: Vec<_> = problem
        .fields()
        .iter()
        .map(|field| {
            (
                field.path().into_owned(),
                field.message(),
                field.code().unwrap(),
            )
        })
        .collect();
    let told: Vec<_> = told
        .iter()
        .map(|(path, message, code)| (&**path, *message, *code))
        .collect();
    assert_eq!(
        told,
        [
            ("$", "name and email exclude each other", "not_both"),
            ("address.height", "must be more than 0.0", "range"),
            ("address.lines", "must have at least 2 items", "length"),
            ("address.zip", "must have 5 characters", "length"),
            ("again", "does not match", "must_match"),
            ("email", "must be an email address", "email"),
            (
                "items[1].quantity",
                "must be at least 1 and at most 100",
                "range"
            ),
            ("name", "is required", "required"),
            ("note", "must have at most 3 characters", "length"),
            ("odd", "is not valid", "odd"),
            ("url", "must be an address of yours", "url"),
        ]
    );
    for format in [Format::Json, Format::ProblemJson] {
        let shown = format!("{problem:?} {:?}", problem.render(format));
        assert!(!shown.contains("c4n4ry"), "{shown}");
    }
}

#[test]
fn what_is_valid_is_no_error() {
    let item = Item { quantity: 7 };
    assert!(item.validate().map_err(FieldErrors::from).is_ok());
}
