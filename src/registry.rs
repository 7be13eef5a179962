//! The one macro behind every family: a list of members becomes the settings enum, its names and its choice by name.
//!
//! A family's `mod.rs` states the list once; the spelling there is the only spelling of a member's name, on the
//! command line, in TOML and in outputs. Each variant carries a settings struct (never a unit: serde accepts unknown
//! keys beside a unit variant's tag).

/// Declares a family: `registry! { /// docs  pub enum LossSettings { "ncmi" => Ncmi(ncmi::NcmiSettings), … } default "ncmi" }`.
#[macro_export]
macro_rules! registry {
    ($(#[$doc:meta])* pub enum $family:ident { $($name:literal => $variant:ident($settings:ty),)+ } default $default:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "name")]
        pub enum $family {
            $(
                #[doc = concat!("`", $name, "`")]
                #[serde(rename = $name)]
                $variant($settings),
            )+
        }

        impl $family {
            /// Every member's name, in the order of the list.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The member that is meant where none is named.
            pub const DEFAULT: &'static str = $default;

            /// The name of the chosen member.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            /// The member called `name` with its default settings; `None` for a name that is not in the list.
            pub fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant(Default::default())),)+ _ => None }
            }
        }

        impl Default for $family {
            fn default() -> Self {
                Self::named($default).expect("the default is in the list")
            }
        }
    };
}
