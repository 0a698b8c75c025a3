//! `--chmod`: in octal digits, or as chmod(1) has it in letters.

/// A change of permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They become these.
    Bits(u32),
    /// Clauses, one after the other.
    Clauses(Vec<Clause>),
}

/// `u+rwX`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Whose bits: a mask of `0o7777`.
    who: u32,
    action: char,
    bits: u32,
    /// `X`: may be entered or run, where it is a folder or somebody may run it already.
    is_conditional: bool,
}

impl Mode {
    /// Reads it.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777);
            return bits.map(Self::Bits).ok_or_else(|| format!("`{text}` is no mode between 0 and 7777"));
        }
        text.split(',')
            .map(clause)
            .collect::<Option<_>>()
            .map(Self::Clauses)
            .ok_or_else(|| format!("`{text}` is no mode: it is like `755` or `u=rwx,go=rX`"))
    }

    /// What `mode` becomes.
    pub fn of(&self, mode: u32, is_folder: bool) -> u32 {
        let clauses = match self {
            Self::Bits(bits) => return *bits,
            Self::Clauses(clauses) => clauses,
        };
        clauses.iter().fold(mode, |mode, Clause { who, action, bits, is_conditional }| {
            let execute = if *is_conditional && (is_folder || mode & 0o111 != 0) { 0o111 } else { 0 };
            let bits = (bits | execute) & who;
            match action {
                '+' => mode | bits,
                '-' => mode & !bits,
                _ => mode & !(who & 0o777) | bits,
            }
        })
    }
}

fn clause(text: &str) -> Option<Clause> {
    let at = text.find(['+', '-', '='])?;
    let (who, rest) = text.split_at(at);
    let mut mask = 0;
    for letter in who.chars() {
        mask |= match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    let mut letters = rest.chars();
    let action = letters.next()?;
    let (mut bits, mut is_conditional) = (0, false);
    for letter in letters {
        match letter {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            'X' => is_conditional = true,
            's' => bits |= 0o6000,
            't' => bits |= 0o1000,
            _ => return None,
        }
    }
    Some(Clause { who: if mask == 0 { 0o7777 } else { mask }, action, bits, is_conditional })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_digits_or_letters() {
        let of = |text: &str, mode, is_folder| Mode::read(text).unwrap().of(mode, is_folder);
        assert_eq!(of("755", 0o600, false), 0o755);
        assert_eq!(of("4755", 0o600, false), 0o4755);
        assert_eq!(of("u=rwX,go=rX", 0o600, false), 0o644);
        assert_eq!(of("u=rwX,go=rX", 0o600, true), 0o755);
        assert_eq!(of("a+x", 0o644, false), 0o755);
        assert_eq!(of("+x", 0o644, false), 0o755);
        assert_eq!(of("go-rwx", 0o755, false), 0o700);
        assert_eq!(of("u+s", 0o755, false), 0o4755);
        for wrong in ["", "8", "77777", "u", "u+z", "z+x", "=", "u+r,"] {
            assert_eq!(Mode::read(wrong).is_ok(), wrong == "=", "{wrong}");
        }
    }
}
