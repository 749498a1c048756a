//! Names of symbols for a person, and what to link for them.

/// A name as it was written: simple C++ and Rust names are unmangled, any other is shown as it is.
pub(super) fn readable(symbol: &str) -> String {
    match unmangled(symbol) {
        Some(name) if name != symbol => format!("{name} ({symbol})"),
        _ => symbol.to_owned(),
    }
}

/// The path in an Itanium name: `_ZN3foo3barEv` is `foo::bar`. Rust's hash at the end is left out.
pub(super) fn unmangled(symbol: &str) -> Option<String> {
    let rest = symbol.strip_prefix("_Z")?;
    let rest = rest.strip_prefix('L').unwrap_or(rest);
    let (mut rest, is_nested) = match rest.strip_prefix('N') {
        Some(nested) => (nested.trim_start_matches('K'), true),
        None => (rest, false),
    };
    let mut path: Vec<&str> = Vec::new();
    if let Some(of_std) = rest.strip_prefix("St") {
        path.push("std");
        rest = of_std;
    }
    while rest.starts_with(|c: char| c.is_ascii_digit()) {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let len: usize = rest[..digits].parse().ok()?;
        path.push(rest.get(digits..digits.checked_add(len)?)?);
        rest = &rest[digits + len..];
        if !is_nested {
            break;
        }
    }
    let is_hash =
        |part: &&str| part.len() == 17 && part.starts_with('h') && part[1..].chars().all(|c| c.is_ascii_hexdigit());
    path.pop_if(|part| is_hash(&&**part));
    (!path.is_empty()).then(|| path.join("::"))
}

/// What to do so that the symbol is there.
pub(super) fn advice(symbol: &str) -> String {
    const MATH: [&str; 16] = [
        "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sqrt", "pow", "exp", "log", "log10", "floor", "ceil",
        "fmod", "round",
    ];
    const PREFIXES: [(&str, &str); 18] = [
        ("pthread_", "-lpthread"),
        ("sem_", "-lpthread"),
        ("dlopen", "-ldl"),
        ("dlsym", "-ldl"),
        ("shm_", "-lrt"),
        ("mq_", "-lrt"),
        ("__atomic_", "-latomic"),
        ("GOMP_", "-fopenmp"),
        ("modbus_", "-lmodbus"),
        ("sqlite3_", "-lsqlite3"),
        ("SSL_", "-lssl -lcrypto"),
        ("EVP_", "-lcrypto"),
        ("curl_", "-lcurl"),
        ("mosquitto_", "-lmosquitto"),
        ("UA_", "-lopen62541"),
        ("inflate", "-lz"),
        ("deflate", "-lz"),
        ("snap7_", "-lsnap7"),
    ];
    let is_math = MATH.iter().any(|name| symbol == *name || symbol.strip_suffix('f') == Some(name));
    if symbol.starts_with("_ZNS")
        || symbol.starts_with("_ZS")
        || symbol.starts_with("__cxa_")
        || symbol.starts_with("_Znw")
    {
        return "link it with c++ instead of cc (or with -lstdc++)".to_owned();
    }
    if symbol.starts_with("dr_") {
        return "the functions dr_… are in dinrail_module.h itself: include it in that file".to_owned();
    }
    match PREFIXES.iter().find(|(prefix, _)| symbol.starts_with(prefix)) {
        _ if is_math => "link it with -lm (behind the files that use it)".to_owned(),
        Some((_, flag)) => format!("link it with {flag} (behind the files that use it)"),
        None => format!("link it with the library that defines {} (-l…), or with the file that was forgotten", {
            unmangled(symbol).unwrap_or_else(|| symbol.to_owned())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_names_are_unmangled() {
        for (symbol, name) in [
            ("_ZN3foo3barEv", Some("foo::bar")),
            ("_Z4scanPKc", Some("scan")),
            ("_ZNSt6thread4joinEv", Some("std::thread::join")),
            ("_ZN5meter4read17h0123456789abcdefE", Some("meter::read")),
            ("_ZL17DINRAIL_MODULE_V1", Some("DINRAIL_MODULE_V1")),
            ("_ZN99x", None),
            ("_Z", None),
            ("modbus_connect", None),
        ] {
            assert_eq!(unmangled(symbol).as_deref(), name, "{symbol}");
        }
    }

    #[test]
    fn advice_names_what_to_link() {
        for (symbol, says) in [
            ("sqrtf", "-lm"),
            ("modbus_connect", "-lmodbus"),
            ("_ZNSt6thread4joinEv", "c++ instead of cc"),
            ("dr_json_get", "dinrail_module.h"),
            ("read_plc", "defines read_plc"),
        ] {
            assert!(advice(symbol).contains(says), "{symbol}: {}", advice(symbol));
        }
    }
}
