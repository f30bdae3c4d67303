//! What the runtime says of itself: as events of `tracing`, whose subscribers are foreign code.

/// Makes an event of `tracing`. A subscriber that panics does no harm.
macro_rules! tell {
    ($level:ident, $($event:tt)+) => {
        ringhold_buffers::foreign::contain(|| tracing::$level!($($event)+))
    };
}

pub(crate) use tell;

/// Whether anything has subscribed to events.
pub(crate) fn is_heard() -> bool {
    tracing::dispatcher::has_been_set()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::panic_any;

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Panics with each event.
    struct Grump;

    impl Subscriber for Grump {
        fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _span: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _span: &Id, _values: &Record<'_>) {}

        fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

        fn event(&self, _event: &Event<'_>) {
            panic_any("a subscriber");
        }

        fn enter(&self, _span: &Id) {}

        fn exit(&self, _span: &Id) {}
    }

    #[test]
    fn a_subscriber_that_panics_costs_nobody_anything() {
        tracing::subscriber::with_default(Grump, || tell!(error, number = 7, "an event"));
    }
}
