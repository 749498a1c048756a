//! Proof by layout: that a Rust module and the runtime mean the same types, compared by `abi_stable` at load.

use std::ffi::c_void;

use abi_stable::abi_stability::check_layout_compatibility;
use abi_stable::type_layout::TypeLayout;
use abi_stable::{ABI_STABLE_VERSION, StableAbi};

use crate::abi::{DrHost, DrLayoutProof, DrModule, DrText};

struct Constant(DrLayoutProof);
// SAFETY: it points to constants.
unsafe impl Sync for Constant {}

static PROOF: Constant = Constant(DrLayoutProof {
    abi_stable: DrText { ptr: ABI_STABLE_VERSION.version.as_ptr(), len: ABI_STABLE_VERSION.version.len() },
    module: (&raw const *<DrModule as StableAbi>::LAYOUT).cast(),
    host: (&raw const *<DrHost as StableAbi>::LAYOUT).cast(),
});

/// The proof that this library carries.
pub(crate) fn of_this_library() -> *const c_void {
    (&raw const PROOF.0).cast()
}

/// Compares the layouts that a module carries with those of this side. Only for a module of the same ABI minor: growth is not
/// its business. Layouts of another version of `abi_stable` are not comparable and pass.
///
/// # Errors
/// The last line of the comparison, which is the one that says it.
///
/// # Safety
/// `proof` came from the module's `extension` for [`crate::abi::DR_EXTENSION_LAYOUT`], and its library is never unloaded.
pub unsafe fn check_layout(proof: &DrLayoutProof) -> Result<(), String> {
    // SAFETY: the caller's promise.
    let theirs = unsafe { proof.abi_stable.text() };
    if theirs != Some(ABI_STABLE_VERSION.version.as_str()) {
        return Ok(());
    }
    let pairs = [
        ("module", <DrModule as StableAbi>::LAYOUT, proof.module),
        ("host", <DrHost as StableAbi>::LAYOUT, proof.host),
    ];
    for (table, ours, theirs) in pairs {
        // SAFETY: the caller's promise: layouts of the same version of `abi_stable`, alive as long as the process.
        let theirs: &'static TypeLayout = unsafe { theirs.cast::<TypeLayout>().as_ref() }
            .ok_or_else(|| format!("the layout of the {table} table is missing"))?;
        if let Err(differences) = check_layout_compatibility(ours, theirs).into_result() {
            return Err(format!("the {table} table differs: {}", last_error(&differences.to_string())));
        }
    }
    Ok(())
}

/// What follows the last `Error:` of a report of many hundred lines, on one line.
fn last_error(report: &str) -> String {
    let last = report.rsplit("Error:").next().unwrap_or(report);
    last.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(StableAbi)]
    struct Other {
        magic: u32,
    }

    #[test]
    fn this_librarys_own_proof_holds() {
        // SAFETY: our own proof.
        assert_eq!(unsafe { check_layout(&PROOF.0) }, Ok(()));
    }

    #[test]
    fn another_layout_is_refused_in_one_line() {
        let other = DrLayoutProof { module: (&raw const *<Other as StableAbi>::LAYOUT).cast(), ..PROOF.0 };
        // SAFETY: layouts of this very library.
        let reason = unsafe { check_layout(&other) }.unwrap_err();
        assert!(reason.starts_with("the module table differs: ") && reason.len() < 1000, "{reason}");
        assert!(!reason.contains('\n'));
    }

    #[test]
    fn layouts_of_another_abi_stable_are_not_compared() {
        let other = DrLayoutProof { abi_stable: DrText::new("0.10.0"), module: std::ptr::null(), ..PROOF.0 };
        // SAFETY: nothing of it is read.
        assert_eq!(unsafe { check_layout(&other) }, Ok(()));
    }
}
