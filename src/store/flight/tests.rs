use super::{ALONE, Flights, MAX_ALONE};
use crate::core::time::{MonoTime, Span};

#[test]
fn a_key_is_fetched_alone_for_a_while_and_then_shared_again() {
    let flights = Flights::default();
    let now = MonoTime::from_micros(1);
    assert!(!flights.is_alone(now, 7));
    flights.remember_alone(now, 7);
    assert!(flights.is_alone(now, 7));
    assert!(!flights.is_alone(now, 8));
    assert!(!flights.is_alone(now.after(ALONE), 7));
}

#[test]
fn what_is_remembered_is_bounded_and_makes_room_for_itself() {
    let flights = Flights::default();
    let now = MonoTime::from_micros(1);
    for key in 0..MAX_ALONE as u128 {
        flights.remember_alone(now, key);
    }
    flights.remember_alone(now, u128::MAX);
    assert!(!flights.is_alone(now, u128::MAX), "full of what still counts");
    let later = now.after(ALONE).after(Span::from_millis(1));
    flights.remember_alone(later, u128::MAX);
    assert!(flights.is_alone(later, u128::MAX));
    assert_eq!(flights.alone.len(), 1);
}
