//! What this machine is, as far as it can be seen without asking anyone: a claim until something proves it.

use std::{fs, io::Read, path::Path};

use crate::{ledger::types::Level, log::Hardware};

/// Memory from which a machine counts as one of 16 GiB. `MemTotal` is what firmware, integrated graphics and the kernel
/// leave over: 15.3 to 15.6 GiB on most such machines, down to 13.5 GiB where graphics takes 2 GiB. No machine is built
/// with a memory between 12 and 16 GiB, so 13 GiB tells the two apart.
const LARGE_MEMORY_KIB_MIN: u64 = 13 * 1024 * 1024;
/// Longest file that is read here; all of them have a few hundred bytes to some kilobytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Longest model that is shown.
const MODEL_CHARS_MAX: usize = 80;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The best place for a key that was seen.
    pub hardware: Hardware,
    /// How much memory the kernel has, in KiB; `None` where it does not say.
    pub memory_kib: Option<u64>,
    /// What the device tree calls this board; foreign text. `None` on machines without one.
    pub model: Option<String>,
}

impl Machine {
    /// Looks at the machine below `root`, which is `/` outside tests. What can't be read counts as missing.
    #[must_use]
    pub fn find(root: &Path) -> Self {
        Self { hardware: hardware(root), memory_kib: memory_kib(root), model: model(root) }
    }

    /// The level that such a machine has with that hardware: 5 with a hardware key and 16 GiB, 4 with 16 GiB, else 3.
    #[must_use]
    pub fn level(&self, hardware: Hardware) -> Level {
        let large = self.memory_kib.is_some_and(|kib| kib >= LARGE_MEMORY_KIB_MIN);
        let number = match (large, hardware) {
            (true, Hardware::Tpm2 | Hardware::TrustZone) => 5,
            (true, Hardware::Software) => 4,
            (false, Hardware::Tpm2 | Hardware::TrustZone | Hardware::Software) => 3,
        };
        Level::try_from(number).unwrap_or(Level::MIN)
    }
}

/// The kernel's TPM resource manager only exists for a TPM 2.0. OP-TEE shows as a device where its driver is loaded,
/// and in the device tree where the firmware has it.
fn hardware(root: &Path) -> Hardware {
    let exists = |path: &str| root.join(path).exists();
    if exists("dev/tpmrm0") {
        Hardware::Tpm2
    } else if exists("dev/tee0") || exists("proc/device-tree/firmware/optee") {
        Hardware::TrustZone
    } else {
        Hardware::Software
    }
}

fn memory_kib(root: &Path) -> Option<u64> {
    let text = read(&root.join("proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn model(root: &Path) -> Option<String> {
    let text = read(&root.join("proc/device-tree/model"))?;
    let model: String = text.trim_end_matches('\0').trim().chars().take(MODEL_CHARS_MAX).collect();
    (!model.is_empty()).then_some(model)
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = vec![];
    fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Machine {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Machine::find(root.path())
    }

    fn level(machine: &Machine) -> u8 {
        machine.level(machine.hardware).number()
    }

    #[test]
    fn a_machine_that_shows_nothing_is_software_of_the_third_level() {
        let bare = machine(&[]);
        assert_eq!(bare, Machine { hardware: Hardware::Software, memory_kib: None, model: None });
        assert_eq!(level(&bare), 3);
    }

    #[test]
    fn a_tpm_in_a_machine_of_16_gib_is_the_fifth_level_though_the_kernel_keeps_some_of_it() {
        let meminfo = "MemTotal:       16084820 kB\nMemFree:         123 kB\n";
        let laptop = machine(&[("dev/tpmrm0", ""), ("proc/meminfo", meminfo)]);
        assert_eq!((laptop.hardware, level(&laptop)), (Hardware::Tpm2, 5));
        assert_eq!(laptop.level(Hardware::Software).number(), 4);
        let small = machine(&[("dev/tpmrm0", ""), ("proc/meminfo", "MemTotal:        8047284 kB\n")]);
        assert_eq!((small.hardware, level(&small)), (Hardware::Tpm2, 3));
    }

    #[test]
    fn trustzone_shows_as_a_device_or_in_the_device_tree() {
        assert_eq!(machine(&[("dev/tee0", "")]).hardware, Hardware::TrustZone);
        let board = machine(&[
            ("proc/device-tree/firmware/optee/method", "smc\0"),
            ("proc/device-tree/model", "NVIDIA Jetson AGX Thor\0"),
        ]);
        assert_eq!(board.hardware, Hardware::TrustZone);
        assert_eq!(board.model.as_deref(), Some("NVIDIA Jetson AGX Thor"));
    }

    #[test]
    fn a_meminfo_that_says_nothing_useful_is_no_memory() {
        for text in ["", "MemTotal: lots kB\n", "MemTotal: 5\n", "\u{0}"] {
            assert_eq!(machine(&[("proc/meminfo", text)]).memory_kib, None);
        }
    }
}
