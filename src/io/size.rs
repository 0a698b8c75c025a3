//! Sizes in bytes, as Kubernetes writes them.

/// `512Mi`, `2G`, `1000000`, in bytes; none where it is no size.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// So many bytes in whole mebibytes, rounded up: `64Mi`.
pub fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes.div_ceil(1 << 20))
}

/// A quantity of Kubernetes, of anything: `500m` is a half, `1.5Gi` 1,610,612,736; none where it is none.
pub fn quantity(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "m" => 1e-3,
        "P" => 1e15,
        "Pi" => 1_125_899_906_842_624.0,
        #[expect(clippy::cast_precision_loss, reason = "the factors are powers of ten or two")]
        unit => bytes(&format!("1{unit}"))? as f64,
    };
    Some(number.parse::<f64>().ok().filter(|_| number.starts_with(|c: char| c.is_ascii_digit()))? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_kubernetes_writes_it() {
        assert_eq!(bytes("512Mi"), Some(512 << 20));
        assert_eq!(bytes("2G"), Some(2_000_000_000));
        assert_eq!(bytes("12"), Some(12));
        for bad in ["", "Mi", "1.5Gi", "2gb", "99999999999Gi"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_quantity_may_be_a_part() {
        for (text, expected) in [
            ("500m", Some(0.5)),
            ("1.5Gi", Some(1_610_612_736.0)),
            ("2", Some(2.0)),
            ("1Pi", Some(1_125_899_906_842_624.0)),
        ] {
            assert_eq!(quantity(text), expected, "{text}");
        }
        for bad in ["", "m", ".5", "1.2.3", "1x", "-1"] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
        assert_eq!(mebibytes(1), "1Mi");
    }
}
