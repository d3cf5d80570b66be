//! What a stolen server can do, against a real broker: endpoints with users of their own.

mod rig;

mod admission;
