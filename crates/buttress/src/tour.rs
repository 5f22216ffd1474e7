#![doc = include_str!("../TOUR.md")]
