//! Sets of CPUs as SPDK writes them: `0x6`, or `[1,2-3]`.

/// The number of CPUs in a set of SPDK's (`SPDK_CPUSET_SIZE`).
const CPUS_MAX: u32 = 1024;

/// The maximum length of a set in characters. All CPUs take fewer in either form, unless each is
/// written with spaces.
const TEXT_MAX: usize = 4096;

/// Parses a set. Returns its CPUs in ascending order, each once. `0x0`, `0` and `[]` are empty.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse(text: &str) -> Result<Vec<u32>, &'static str> {
    if text.len() > TEXT_MAX {
        return Err("too long");
    }
    let text = text.trim_matches(BLANKS);
    let mut cpus = match text.strip_prefix('[') {
        Some(list) => of_list(list.strip_suffix(']').ok_or("a list ends with ]")?)?,
        None => of_mask(text)?,
    };
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

/// Returns the CPUs as a text that [`parse`] accepts.
pub fn write(cpus: impl IntoIterator<Item = u32>) -> String {
    let numbers: Vec<String> = cpus.into_iter().map(|cpu| cpu.to_string()).collect();
    format!("[{}]", numbers.join(","))
}

const BLANKS: [char; 2] = [' ', '\t'];

fn of_list(list: &str) -> Result<Vec<u32>, &'static str> {
    let mut cpus = Vec::new();
    if list.trim_matches(BLANKS).is_empty() {
        return Ok(cpus);
    }
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err("a range goes from the lower to the higher number");
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

fn number(text: &str) -> Result<u32, &'static str> {
    let text = text.trim_matches(BLANKS);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a list has numbers and ranges, such as [1,2-3]");
    }
    text.parse().ok().filter(|cpu| *cpu < CPUS_MAX).ok_or("CPUs have numbers from 0 to 1023")
}

fn of_mask(mask: &str) -> Result<Vec<u32>, &'static str> {
    const WRONG: &str = "neither a hexadecimal mask such as 0x6 nor a list such as [1,2-3]";
    let digits = mask.strip_prefix("0x").or_else(|| mask.strip_prefix("0X")).unwrap_or(mask);
    if digits.is_empty() {
        return Err(WRONG);
    }
    let mut cpus = Vec::new();
    for (place, digit) in digits.chars().rev().enumerate() {
        let bits = digit.to_digit(16).ok_or(WRONG)?;
        cpus.extend((0..4).filter(|bit| bits >> bit & 1 == 1).map(|bit| 4 * place as u32 + bit));
    }
    // The CPUs are in ascending order, because the digits are read from the lowest to the highest.
    if cpus.last().is_some_and(|cpu| *cpu >= CPUS_MAX) {
        return Err("CPUs have numbers from 0 to 1023");
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_either_form() {
        let all: Vec<u32> = (0..1024).collect();
        let all_bits = format!("0x{}", "f".repeat(256));
        let good: &[(&str, &[u32])] = &[
            ("0x0", &[]),
            ("0", &[]),
            ("[]", &[]),
            ("[ ]", &[]),
            ("0x1", &[0]),
            ("0x6", &[1, 2]),
            ("6", &[1, 2]),
            ("0X6", &[1, 2]),
            ("  0x6\t", &[1, 2]),
            ("0x00000006", &[1, 2]),
            ("aF0", &[4, 5, 6, 7, 9, 11]),
            ("0x8000000000000001", &[0, 63]),
            ("0x10000000000000000", &[64]),
            (&all_bits, &all),
            ("[0-1023]", &all),
            ("[1]", &[1]),
            ("[1,2-3]", &[1, 2, 3]),
            (" [ 1 , 2 - 3 ] ", &[1, 2, 3]),
            ("[3,1,1-2,3]", &[1, 2, 3]),
            ("[5-5]", &[5]),
            ("[007]", &[7]),
        ];
        for (text, cpus) in good {
            assert_eq!(parse(text).as_deref(), Ok(*cpus), "{text:?}");
            assert_eq!(parse(&write(cpus.iter().copied())).as_deref(), Ok(*cpus), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_set() {
        let long = "0".repeat(TEXT_MAX + 1);
        let bad = [
            "",
            " ",
            "0x",
            "x6",
            "0x6g",
            "-1",
            "+6",
            "0x 6",
            "0x-6",
            "6 6",
            "1,2",
            "1-2",
            "ff,ff",
            "６",
            "\0",
            "0x6\n",
            "[",
            "]",
            "[1",
            "1]",
            "[[1]]",
            "[1]]",
            "[,]",
            "[1,]",
            "[,1]",
            "[1,,2]",
            "[-]",
            "[1-]",
            "[-1]",
            "[1--2]",
            "[1-2-3]",
            "[2-1]",
            "[+1]",
            "[0x1]",
            "[a]",
            "[1 2]",
            "[1.5]",
            "[٣]",
            "[1024]",
            "[0-1024]",
            "[4294967296]",
            "[1]\n",
            "[99999999999999999999]",
            "all",
            "none",
            &long,
        ];
        for text in bad {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&format!("0x1{}", "0".repeat(256))).is_err());
        assert_eq!(parse("[2-1]"), Err("a range goes from the lower to the higher number"));
        assert_eq!(parse("[7,1024]"), Err("CPUs have numbers from 0 to 1023"));
    }
}
