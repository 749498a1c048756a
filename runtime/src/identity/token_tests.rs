//! Tokens as other implementations make them, as nobody should, and as this one does.
//!
//! The vectors are from python3, with `key = bytes(range(32))` or `bytes(range(100, 148))`:
//!
//! ```text
//! sr = urllib.parse.quote("localhost:8443/devices/Hannover01/modules/filter", safe="")
//! sig = base64.b64encode(hmac.new(key, f"{sr}\n{se}".encode(), hashlib.sha256).digest())
//! f"SharedAccessSignature sr={sr}&sig={urllib.parse.quote(sig, safe='')}&se={se}"
//! ```

use proptest::prelude::*;

use super::credential::SymmetricKey;
use super::*;
use crate::database::Database;
use crate::name::Identity;

/// Of the vectors.
const SE: i64 = 1_795_269_909;
const NOW: i64 = (SE - 60) * 1_000_000;
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoOEhYaHiImKi4yNjo+QkZKT";
const FILTER: &str = "SharedAccessSignature sr=localhost%3A8443%2Fdevices%2FHannover01%2Fmodules%2Ffilter&sig=Ry1bAGbwo7gLsdSEiIoARTJ5LIlPJISvBZca7ZDmS6Q%3D&se=1795269909";
const FILTER_SR: &str = "sr=localhost%3A8443%2Fdevices%2FHannover01%2Fmodules%2Ffilter";
const FILTER_SIG: &str = "sig=Ry1bAGbwo7gLsdSEiIoARTJ5LIlPJISvBZca7ZDmS6Q%3D";
/// With a raw `/` in `sig`, as the Python service SDK writes it.
const OWNER: &str = "SharedAccessSignature sr=localhost%3A8443&sig=mz9WAFlJLsJCw2h0xeiC/luTyWT6zh%2BMdh50SPuVUqY%3D&se=1795269910&skn=owner";
/// With lower-case hexadecimal digits, another case of the host, and ids that were encoded before the whole was.
const TWICE: &str = "SharedAccessSignature sr=Localhost%2fdevices%2fa%2525b%2Fmodules%2F%24edgeHub&sig=OrtuLe4U%2BwMco%2F82hTmagqGonmFlgs8Oc5zm1Mi8wFw%3D&se=1795269909";

struct House {
    identities: Identities,
    filter: Identity,
    _dir: tempfile::TempDir,
}

impl House {
    /// With the keys of the vectors.
    fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path()).unwrap();
        let master = MasterKey::random().unwrap();
        let (identities, _) = Identities::open(&database, master, Some("Hannover01"), "").unwrap();
        let filter: Identity = "/devices/Hannover01/modules/filter".parse().unwrap();
        let change = IdentityChange { primary: Some(SymmetricKey::from_base64(KEY).unwrap()), ..Default::default() };
        identities.add(&[NewIdentity { identity: filter.clone(), change }]).unwrap();
        House { identities, filter, _dir: dir }
    }

    fn who(&self, token: &str) -> Result<Principal, TokenError> {
        self.who_at(token, NOW)
    }

    fn who_at(&self, token: &str, now_us: i64) -> Result<Principal, TokenError> {
        self.identities.authenticate(&Token::parse(token)?, &["LocalHost:8443", "hannover01.local"], now_us)
    }

    fn key(&self, slot: KeySlot) -> SymmetricKey {
        self.identities.key(&self.filter, slot).unwrap()
    }
}

fn signed(key: &str, resource: &str) -> String {
    Token::make(&SymmetricKey::from_base64(key).unwrap(), resource, SE as u64, None)
}

#[test]
fn token_of_another_implementation_is_taken() {
    let house = House::new();
    assert_eq!(house.who(FILTER), Ok(Principal::Identity(house.filter.clone())));
}

#[test]
fn token_made_here_is_the_one_that_others_make() {
    assert_eq!(signed(KEY, "localhost:8443/devices/Hannover01/modules/filter"), FILTER);
}

#[test]
fn parameters_may_come_in_any_order() {
    let house = House::new();
    let parts = [FILTER_SR, FILTER_SIG, "se=1795269909"];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let text = order.map(|at| parts[at]).join("&");
        assert!(house.who(&format!("SharedAccessSignature {text}")).is_ok(), "{text}");
        assert!(house.who(&format!("SharedAccessSignature skn=&{text}")).is_ok(), "an empty skn is none");
        assert!(house.who(&format!("sharedaccesssignature {text}&unknown=1")).is_ok(), "a scheme has no case");
    }
}

#[test]
fn policy_token_with_a_raw_slash_is_taken() {
    let Ok(token) = Token::parse(OWNER) else { panic!("it is one") };
    assert!(token.is_signed_with(&SymmetricKey::from_base64(OTHER_KEY).unwrap()));
    assert_eq!((token.policy(), &*token.scope().host, &*token.scope().path), (Some("owner"), "localhost", ""));
}

#[test]
fn policy_tokens_give_their_role_within_their_scope() {
    let house = House::new();
    for role in Role::ALL {
        let token = house.identities.policy_token(role, "localhost:8443", SE as u64).unwrap();
        let who = house.who(&token).unwrap();
        assert!(matches!(&who, Principal::Policy { role: found, .. } if *found == role), "{who:?}");
        assert!(who.covers(&house.filter));
    }
    let key = house.identities.policy_key(Role::Operator, KeySlot::Secondary).unwrap();
    let narrow = Token::make(&key, "localhost/devices/Hannover01", SE as u64, Some("operator"));
    let narrow = house.who(&narrow).unwrap();
    assert!(narrow.covers(&house.filter));
    assert!(!narrow.covers(&"/devices/Hannover012".parse().unwrap()));
    assert!(!narrow.covers(&"/devices/Other".parse().unwrap()));

    let claimed = Token::make(&key, "localhost", SE as u64, Some("owner"));
    assert_eq!(house.who(&claimed), Err(TokenError::WrongKey("the policy owner".to_owned())));
    assert!(house.who(&claimed).unwrap_err().hint().ends_with("identity connection-string --policy owner"));
    let unknown = Token::make(&key, "localhost", SE as u64, Some("iothubowner"));
    assert!(matches!(house.who(&unknown), Err(TokenError::UnknownPolicy(name)) if name == "iothubowner"));
}

#[test]
fn a_rotated_policy_key_ends_its_tokens_and_leaves_the_other_keys() {
    let house = House::new();
    let token = |slot| {
        let key = house.identities.policy_key(Role::Operator, slot).unwrap();
        Token::make(&key, "localhost", SE as u64, Some("operator"))
    };
    let (primary, secondary) = (token(KeySlot::Primary), token(KeySlot::Secondary));

    house.identities.rotate_policy(Role::Operator, Rotation::Renew(KeySlot::Primary)).unwrap();

    assert!(house.who(&primary).is_err());
    assert!(house.who(&secondary).is_ok());
    assert!(house.who(&token(KeySlot::Primary)).is_ok());
}

#[test]
fn host_is_compared_without_case_and_port() {
    let house = House::new();
    for host in ["localhost", "LOCALHOST", "localhost:1", "Hannover01.Local:443", "hannover01.local"] {
        assert!(house.who(&signed(KEY, &format!("{host}{}", house.filter))).is_ok(), "{host}");
    }
    for host in ["localhost.evil.org", "evil", "localhos", "[::1]:443", "localhost:x", "localhost:"] {
        let refused = house.who(&signed(KEY, &format!("{host}{}", house.filter)));
        assert!(matches!(refused, Err(TokenError::WrongHost { .. })), "{host}: {refused:?}");
    }
    let v6 = Token::parse(&signed(KEY, &format!("[::1]:8443{}", house.filter))).unwrap();
    assert!(house.identities.authenticate(&v6, &["[::1]"], NOW).is_ok());
    assert!(house.identities.authenticate(&v6, &[] as &[&str], NOW).is_err(), "no name is no permission");
}

#[test]
fn both_keys_of_an_identity_are_taken_and_no_other() {
    let house = House::new();
    let resource = format!("localhost{}", house.filter);
    for slot in [KeySlot::Primary, KeySlot::Secondary] {
        assert!(house.who(&Token::make(&house.key(slot), &resource, SE as u64, None)).is_ok());
    }
    let device = house.identities.key(&house.identities.device().unwrap(), KeySlot::Primary).unwrap();
    for key in [SymmetricKey::random().unwrap(), device] {
        let refused = house.who(&Token::make(&key, &resource, SE as u64, None));
        assert_eq!(refused, Err(TokenError::WrongKey(house.filter.to_string())));
    }
}

#[test]
fn a_token_is_for_the_identity_that_it_names_alone() {
    let house = House::new();
    let device = house.identities.device().unwrap();
    let key = house.identities.key(&device, KeySlot::Primary).unwrap();
    let token = Token::make(&key, "localhost/devices/Hannover01", SE as u64, None);
    let who = house.who(&token).unwrap();
    assert_eq!(who, Principal::Identity(device.clone()));
    assert!(who.covers(&device) && !who.covers(&house.filter));
    assert_eq!(house.who(&Token::make(&key, "localhost", SE as u64, None)), Err(TokenError::Nobody));
}

#[test]
fn expired_tokens_are_refused_once_clocks_cannot_be_the_reason() {
    let house = House::new();
    let at = |seconds_after: i64| house.who_at(FILTER, (SE + seconds_after) * 1_000_000);
    let skew = CLOCK_SKEW_S as i64;
    assert!(at(0).is_ok() && at(skew).is_ok());
    assert_eq!(at(skew + 1), Err(TokenError::Expired { ago_s: CLOCK_SKEW_S + 1 }));
    assert!(house.who_at(FILTER, -1).is_ok(), "a device without the time cannot tell");
}

#[test]
fn unknown_and_disabled_identities_are_refused() {
    let house = House::new();
    let unknown = signed(KEY, "localhost/devices/Hannover01/modules/nobody");
    assert!(matches!(house.who(&unknown), Err(TokenError::UnknownIdentity(_))));

    let disable = IdentityChange { is_enabled: Some(false), ..Default::default() };
    house.identities.update(&house.filter, &disable, None).unwrap();
    assert_eq!(house.who(FILTER), Err(TokenError::Disabled(house.filter.clone())));
    let wrong = signed(OTHER_KEY, "localhost/devices/Hannover01/modules/filter");
    assert!(matches!(house.who(&wrong), Err(TokenError::WrongKey(_))), "a stranger does not learn it");

    let enable = IdentityChange { is_enabled: Some(true), ..Default::default() };
    house.identities.update(&house.filter, &enable, None).unwrap();
    assert!(house.who(FILTER).is_ok());
}

#[test]
fn modules_of_a_disabled_device_are_refused() {
    let house = House::new();
    let camera: Identity = "/devices/camera".parse().unwrap();
    let lens: Identity = "/devices/camera/modules/lens".parse().unwrap();
    let new = |identity: &Identity| NewIdentity { identity: identity.clone(), change: IdentityChange::default() };
    house.identities.add(&[new(&camera), new(&lens)]).unwrap();
    let token = house.identities.token(&lens, "localhost", SE as u64).unwrap();
    assert!(house.who(&token).is_ok());

    let disable = IdentityChange { is_enabled: Some(false), ..Default::default() };
    house.identities.update(&camera, &disable, None).unwrap();

    assert_eq!(house.who(&token), Err(TokenError::Disabled(camera)));
}

#[test]
fn ids_that_were_encoded_before_the_whole_was_are_found() {
    let house = House::new();
    let twice: Identity = "/devices/a%b/modules/$edgeHub".parse().unwrap();
    let change = IdentityChange { primary: Some(SymmetricKey::from_base64(KEY).unwrap()), ..Default::default() };
    let device = NewIdentity { identity: twice.of_device(), change: IdentityChange::default() };
    house.identities.add(&[device, NewIdentity { identity: twice.clone(), change }]).unwrap();

    assert_eq!(house.who(TWICE), Ok(Principal::Identity(twice)));
}

#[test]
fn malformed_tokens_are_refused_with_the_reason() {
    let house = House::new();
    let sas = |parameters: &str| format!("SharedAccessSignature {parameters}");
    let with = |sr: &str| sas(&format!("{sr}&{FILTER_SIG}&se=1795269909"));
    let with_sig = |sig: &str| sas(&format!("{FILTER_SR}&sig={sig}&se=1795269909"));
    let with_se = |se: &str| sas(&format!("{FILTER_SR}&{FILTER_SIG}&se={se}"));
    let table: Vec<(String, TokenError)> = vec![
        (String::new(), TokenError::NotSas),
        ("Bearer eyJhbGciOi".to_owned(), TokenError::NotSas),
        ("SharedAccessSignature".to_owned(), TokenError::NotSas),
        (FILTER.replace("Signature ", "Signature"), TokenError::NotSas),
        (FILTER.replace("Signature ", "Signature\t"), TokenError::NotSas),
        (format!(" {FILTER}"), TokenError::NotSas),
        ("SharedAccessSignaturé x".to_owned(), TokenError::NotSas),
        (sas(""), TokenError::NotPair { at: 1 }),
        (sas("&"), TokenError::NotPair { at: 1 }),
        (sas("sr"), TokenError::NotPair { at: 1 }),
        (format!("{FILTER}&"), TokenError::NotPair { at: 4 }),
        (FILTER.replace("&se", "&&se"), TokenError::NotPair { at: 3 }),
        (sas(&format!("{FILTER_SIG}&se=1")), TokenError::Missing("sr")),
        (sas(&format!("{FILTER_SR}&se=1")), TokenError::Missing("sig")),
        (sas(&format!("{FILTER_SR}&{FILTER_SIG}")), TokenError::Missing("se")),
        (FILTER.replace("sr=", "SR="), TokenError::Missing("sr")),
        (format!("{FILTER}&{FILTER_SR}"), TokenError::Twice("sr")),
        (format!("{FILTER}&{FILTER_SIG}"), TokenError::Twice("sig")),
        (format!("{FILTER}&se=9999999999"), TokenError::Twice("se")),
        (format!("{FILTER}&skn=owner&skn=reader"), TokenError::Twice("skn")),
        (with("sr=localhost%"), TokenError::Encoding("sr")),
        (with("sr=localhost%2"), TokenError::Encoding("sr")),
        (with("sr=localhost%zz"), TokenError::Encoding("sr")),
        (with("sr=%ff%fe"), TokenError::Encoding("sr")),
        (with_sig("%C3%28"), TokenError::Encoding("sig")),
        (format!("{FILTER}&skn=%ff"), TokenError::Encoding("skn")),
        (with("sr="), TokenError::Resource),
        (with("sr=%2Fdevices%2Fx"), TokenError::Resource),
        (with("sr=local%20host"), TokenError::Resource),
        (with("sr=localhost%2Fdevices%2Fx%00"), TokenError::Resource),
        (with("sr=localhost%0a"), TokenError::Resource),
        (with("sr=localhost%2Fdevices%2Fx sig=QUJD"), TokenError::Resource),
        (with("sr=localhostsig=QUJD"), TokenError::Resource),
        (with("sr=localhost&skn=owner sig=QUJD"), TokenError::Policy),
        (with_sig(""), TokenError::Signature),
        (with_sig("AAAA"), TokenError::Signature),
        (with_sig("not+base64"), TokenError::Signature),
        (with_sig("Ry1bAGbwo7gLsdSEiIoARTJ5LIlPJISvBZca7ZDmS6Q"), TokenError::Signature),
        (with_sig("Ry1bAGbwo7gLsdSEiIoARTJ5LIlPJISvBZca7ZDmS6Q%253D"), TokenError::Signature),
        (with_se(""), TokenError::Expiry),
        (with_se("soon"), TokenError::Expiry),
        (with_se("-1"), TokenError::Expiry),
        (with_se("+1795269909"), TokenError::Expiry),
        (with_se("1795269909.5"), TokenError::Expiry),
        (with_se("99999999999999999999999"), TokenError::Expiry),
        (with_se("%31795269909"), TokenError::Expiry),
        ("x".repeat(5000), TokenError::TooLong { bytes: 5000 }),
        (with_se("1895269909"), TokenError::WrongKey(house.filter.to_string())),
        (with_se("01795269909"), TokenError::WrongKey(house.filter.to_string())),
        (FILTER.replace("%2F", "/"), TokenError::WrongKey(house.filter.to_string())),
        (FILTER.replace("%2F", "%2f"), TokenError::WrongKey(house.filter.to_string())),
        (with("sr=localhost"), TokenError::Nobody),
    ];
    for (text, expected) in &table {
        let refused = house.who(text).unwrap_err();
        assert_eq!(refused, *expected, "{text}");
        let said = format!("{refused} {refused:?} {}", refused.hint());
        assert!(!said.contains("Ry1bAG"), "{said}");
    }
    for path in ["/devices", "/devices/", "/twins/x", "/devices/x/modules", "/devices//modules/x", "/devices/a/b"] {
        let refused = house.who(&signed(KEY, &format!("localhost{path}"))).unwrap_err();
        assert!(matches!(refused, TokenError::Name(_)), "{path}: {refused}");
    }
}

#[test]
fn debug_shows_no_signature() {
    let shown = format!("{:?}", Token::parse(FILTER).unwrap());
    assert!(shown.contains("/devices/Hannover01/modules/filter") && !shown.contains("Ry1b"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = Token::parse(&text);
        let _ = Token::parse(&format!("SharedAccessSignature {text}"));
    }

    #[test]
    fn no_parameters_make_the_parser_panic(sr in "[%/:a-f0-9\\[\\]]{0,40}", sig in "[%=+/A-Fa-z0-9]{0,60}", se in "[0-9%.-]{0,25}") {
        let _ = Token::parse(&format!("SharedAccessSignature sr={sr}&sig={sig}&se={se}&skn={sr}"));
    }

    #[test]
    fn what_is_made_is_read_back(
        device in "[A-Za-z0-9:.+%_#*?!(),=@;$'-]{3,128}",
        module in "[A-Za-z0-9:.+%_#*?!(),=@;$'-]{3,128}",
        expiry in any::<u64>(),
    ) {
        let key = SymmetricKey::from_base64(KEY).unwrap();
        let token = Token::parse(&Token::make(&key, &format!("h:1/devices/{device}/modules/{module}"), expiry, None)).unwrap();
        prop_assert!(token.is_signed_with(&key));
        prop_assert_eq!(token.expiry_s(), expiry);
        prop_assert_eq!(token.scope().identity().unwrap(), Identity::module(&device, &module).unwrap());
    }
}
