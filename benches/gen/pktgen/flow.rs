//! Which flows there are. Flow number i is 192.0.2.100:(1024 + i) to 192.0.2.200:5000; beyond
//! 60,000 flows sources are from 198.18.0.0/15, the range for benchmarks (RFC 2544).

/// Source ports for each source address.
const PORTS: u32 = 60_000;
const FIRST_PORT: u16 = 1024;
/// 192.0.2.100
const FIRST_ADDRESS: u32 = 0xc000_0264;
/// Addresses in 198.18.0.0/15.
const SPOOFED_ADDRESSES: u32 = 1 << 17;
const FIRST_SPOOFED: u32 = 0xc612_0000;

/// Where a flow comes from.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) address: u32,
    pub(crate) port: u16,
}

/// In which order flows take turns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One after the other, and again from the first.
    InTurn,
    /// Each once, over all the spoofed addresses, so that no source has more than its share of a
    /// table.
    Once,
    /// A source of its own for each frame, in no order that repeats soon; the same in each run.
    Spoofed,
}

/// The flows of a run.
pub(crate) struct Flows {
    pub(crate) order: Order,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Flows {
    /// The source of the frame that is sent as number `turn`.
    pub(crate) fn source(&self, turn: u64) -> Source {
        let number = self.first + (turn % u64::from(self.count)) as u32;
        match self.order {
            Order::Spoofed => spoofed(scatter(turn)),
            Order::Once => Source {
                address: FIRST_SPOOFED + number % SPOOFED_ADDRESSES,
                port: FIRST_PORT + (number / SPOOFED_ADDRESSES) as u16,
            },
            Order::InTurn => Source {
                address: match number / PORTS {
                    0 => FIRST_ADDRESS,
                    more => FIRST_SPOOFED + more,
                },
                port: FIRST_PORT + (number % PORTS) as u16,
            },
        }
    }
}

fn spoofed(bits: u64) -> Source {
    Source {
        address: FIRST_SPOOFED + (bits >> 40) as u32 % SPOOFED_ADDRESSES,
        port: FIRST_PORT + (bits % u64::from(PORTS)) as u16,
    }
}

/// Numbers in a row become numbers all over (the finalizer of splitmix64).
fn scatter(number: u64) -> u64 {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
