//! Declares the states of rows whose column `status` holds a number.

/// Declares the states of a row with their numbers in the store and the words for them.
macro_rules! states {
    ($(#[$meta:meta])* $name:ident $count:literal { $($(#[$of:meta])* $state:ident = $code:literal, $word:literal;)* }) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        $(#[$meta])*
        pub enum $name {
            $($(#[$of])* $state,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; $count] = [$(Self::$state),*];

            /// Its number in the column `status`.
            pub const fn code(self) -> u8 {
                match self {
                    $(Self::$state => $code,)*
                }
            }

            /// The state of a number.
            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.into_iter().find(|state| state.code() == code)
            }

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$state => $word,)*
                }
            }
        }
    };
}
