//! A garde report becomes field errors.

use buttress_error_envelope::{FieldErrors, Problem};
use garde::Validate;

#[derive(Validate)]
struct Order {
    #[garde(length(min = 1), dive)]
    items: Vec<Item>,
    #[garde(ascii, length(max = 3))]
    note: String,
}

#[derive(Validate)]
struct Item {
    #[garde(range(min = 1, max = 100))]
    quantity: u32,
}

fn check(order: &Order) -> Result<(), Problem> {
    order.validate().map_err(FieldErrors::from)?;
    Ok(())
}

#[test]
fn each_entry_of_the_report_is_a_field_error_with_its_path() {
    let order = Order {
        items: vec![Item { quantity: 1 }, Item { quantity: 0 }],
        note: "äöüß".into(),
    };
    let problem = check(&order).unwrap_err();
    assert_eq!(problem.to_string(), "VALIDATION_FAILED (422)");
    let mut told: Vec<_> = problem
        .fields()
        .iter()
        .map(|field| format!("{}: {}", field.path(), field.message()))
        .collect();
    told.sort();
    assert_eq!(
        told,
        [
            "items[1].quantity: lower than 1",
            "note: length is greater than 3",
            "note: not ascii",
        ]
    );
}

#[test]
fn a_key_with_a_dot_in_it_is_one_key() {
    let mut report = garde::Report::new();
    let path = garde::Path::new("prices").join("a.b").join(3_usize);
    report.append(path, garde::Error::new("is wrong"));
    report.append(
        garde::Path::empty(),
        garde::Error::new("is wrong as a whole"),
    );
    let wrong = FieldErrors::from(report);
    let paths: Vec<_> = wrong
        .iter()
        .map(|field| field.path().into_owned())
        .collect();
    assert_eq!(paths, ["prices[\"a.b\"][3]", "$"]);
}

#[test]
fn a_valid_value_passes() {
    let order = Order {
        items: vec![Item { quantity: 1 }],
        note: String::new(),
    };
    assert!(check(&order).is_ok());
}
