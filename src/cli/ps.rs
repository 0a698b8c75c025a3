//! `ekiben ps`

use super::{Context, Exit, Failure};
