//! What makes an environment large that need not be: packages for a machine with a GPU, or with a screen. As far as names
//! show it; nothing is unpacked.

use serde::Serialize;

/// A package that takes much of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Large {
    /// Normalised (PEP 503).
    pub name: String,
    /// PEP 440.
    pub version: String,
    /// Of its layer as it is stored, in bytes; none where that is not known before it is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What usually avoids it, for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saving: Option<&'static str>,
}

const TORCH: &str = "without a GPU, take torch from its index of CPU builds (`[tool.uv.sources]`)";
const XGBOOST: &str = "without a GPU, require `xgboost-cpu` in the place of xgboost";
const TENSORFLOW: &str = "without a GPU, require `tensorflow-cpu` in the place of tensorflow";
const ONNX: &str = "without a GPU, require `onnxruntime` in the place of onnxruntime-gpu";
const JAX: &str = "without a GPU, require jax without its extra `cuda`";
const CUDA: &str = "CUDA is of use with a GPU alone";
const OPENCV: &str = "without a screen, require the `-headless` package of opencv";

/// Packages, given with name, version and size where it is known: those with a size, and those that something avoids.
/// The largest come first, then by name.
pub fn large(packages: &[(String, String, Option<u64>)]) -> Vec<Large> {
    let mut found: Vec<_> = packages
        .iter()
        .map(|(name, version, size)| Large {
            name: name.clone(),
            version: version.clone(),
            size: *size,
            saving: saving(name, version, packages),
        })
        .filter(|large| large.size.is_some() || large.saving.is_some())
        .collect();
    found.sort_by(|a, b| b.size.cmp(&a.size).then(a.name.cmp(&b.name)));
    found.dedup();
    found
}

/// What usually avoids a package of an environment.
fn saving(name: &str, version: &str, all: &[(String, String, Option<u64>)]) -> Option<&'static str> {
    let has = |wanted: &str| all.iter().any(|(name, ..)| name == wanted);
    let is_cuda = |name: &str| name.starts_with("nvidia-") || name == "triton" || name.starts_with("cuda-");
    match name {
        // The CPU build depends on nothing of CUDA's, and says what it is.
        "torch" => (!version.ends_with("+cpu") && all.iter().any(|(name, ..)| is_cuda(name))).then_some(TORCH),
        "xgboost" => Some(XGBOOST),
        "tensorflow" => Some(TENSORFLOW),
        "onnxruntime-gpu" => Some(ONNX),
        "opencv-python" | "opencv-contrib-python" => Some(OPENCV),
        name if is_cuda(name) => Some(match () {
            () if has("torch") => TORCH,
            () if has("xgboost") => XGBOOST,
            () if has("tensorflow") => TENSORFLOW,
            () if has("jax") => JAX,
            () => CUDA,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Vec<(String, Option<&'static str>)> {
        let packages: Vec<_> = names
            .iter()
            .map(|text| {
                let (name, version) = text.split_once(' ').unwrap_or((text, "1"));
                (name.to_owned(), version.to_owned(), None)
            })
            .collect();
        large(&packages).into_iter().map(|large| (large.name, large.saving)).collect()
    }

    #[test]
    fn cuda_is_avoided_by_whoever_brought_it() {
        let nccl = "nvidia-nccl-cu12".to_owned();
        assert_eq!(
            of(&["torch", "nvidia-nccl-cu12", "numpy"]),
            [(nccl.clone(), Some(TORCH)), ("torch".into(), Some(TORCH))]
        );
        assert_eq!(
            of(&["xgboost", "nvidia-nccl-cu12"]),
            [(nccl.clone(), Some(XGBOOST)), ("xgboost".into(), Some(XGBOOST))]
        );
        assert_eq!(of(&["nvidia-nccl-cu12"]), [(nccl, Some(CUDA))]);
        assert!(of(&["torch 2.4.1+cpu", "torch 2.4.1", "numpy", "xgboost-cpu", "scipy"]).is_empty());
    }

    #[test]
    fn the_largest_come_first() {
        let packages = [("a", 1), ("c", 3), ("b", 3)].map(|(name, size)| (name.to_owned(), "1".to_owned(), Some(size)));
        let names: Vec<_> = large(&packages).into_iter().map(|large| large.name).collect();
        assert_eq!(names, ["b", "c", "a"]);
    }
}
