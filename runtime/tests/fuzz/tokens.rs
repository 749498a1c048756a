//! SAS tokens: nothing but a true one gets in, and no refusal tells a secret.
//!
//! An input is a token as it stands in `Authorization`. Where one is taken, its signature is computed once more, from the text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dinrail::database::Database;
use dinrail::identity::{CLOCK_SKEW_S, Identities, KeySlot, Principal, Role, SymmetricKey, Token, device_key};
use dinrail::name::Identity;

use super::engine::{Chance, Target, fuzz};

const HOSTS: [&str; 2] = ["localhost", "fuzz.example"];
const NOW_S: u64 = 1_795_000_000;

struct Stage {
    identities: Identities,
    known: Vec<Identity>,
    secrets: Vec<String>,
    true_ones: Vec<String>,
    _database: Database,
    _folder: tempfile::TempDir,
}

#[test]
fn only_true_tokens_get_in_and_no_refusal_tells_a_secret() {
    let folder = tempfile::Builder::new().prefix("dinrail-fuzz-").tempdir().unwrap();
    let database = Database::open(folder.path()).unwrap();
    let (master, _) = device_key(&database, folder.path(), false).unwrap();
    let (identities, _) = Identities::open(&database, master, Some("fuzz"), "fuzz").unwrap();
    let module = identities.ensure(Some("m")).unwrap().identity.clone();
    let odd = identities.ensure(Some("a%b+c;$'")).unwrap().identity.clone();
    let known = vec![identities.device().unwrap(), module, odd];
    let mut keys = Vec::new();
    for slot in [KeySlot::Primary, KeySlot::Secondary] {
        keys.extend(known.iter().map(|identity| identities.key(identity, slot).unwrap()));
        keys.extend([Role::Reader, Role::Operator, Role::Owner].map(|role| identities.policy_key(role, slot).unwrap()));
    }
    let secrets = keys.iter().map(|key| key.to_base64().to_string()).collect();
    let mut true_ones: Vec<String> =
        known.iter().map(|id| identities.token(id, HOSTS[0], NOW_S + 60).unwrap()).collect();
    true_ones.extend(
        [Role::Reader, Role::Operator, Role::Owner]
            .map(|role| identities.policy_token(role, HOSTS[1], NOW_S + 60).unwrap()),
    );
    let stage = Stage { identities, known, secrets, true_ones, _database: database, _folder: folder };
    for token in &stage.true_ones {
        assert!(stage.run(token.as_bytes()).starts_with('+'), "a true token is refused: {token}");
    }
    fuzz(&Target {
        name: "tokens",
        generate: &|chance| stage.generate(chance),
        words: &[
            "SharedAccessSignature ",
            "sharedaccesssignature",
            "sr=",
            "sig=",
            "se=",
            "skn=",
            "&",
            "=",
            "%",
            "%2F",
            "%2f",
            "%25",
            "%00",
            "localhost",
            "fuzz.example",
            ":443",
            "/devices/fuzz",
            "/modules/m",
            "owner",
            "reader",
            "9999999999",
            "18446744073709551616",
            "+60",
            " ",
            "ü",
            "==",
        ],
        run: &|input| stage.run(input),
    });
}

impl Stage {
    fn generate(&self, chance: &mut Chance) -> Vec<u8> {
        if chance.one_in(4) {
            return self.true_ones[chance.below(self.true_ones.len())].clone().into_bytes();
        }
        let role = *chance.pick(&[Role::Reader, Role::Operator, Role::Owner]);
        let identity = self.known[chance.below(self.known.len())].clone();
        let slot = *chance.pick(&[KeySlot::Primary, KeySlot::Secondary]);
        let key = match chance.below(3) {
            0 => self.identities.policy_key(role, slot).unwrap(),
            1 => SymmetricKey::random().unwrap(),
            _ => self.identities.key(&identity, slot).unwrap(),
        };
        let host = *chance.pick(&["localhost", "LOCALHOST", "localhost:8443", "fuzz.example", "elsewhere", ""]);
        let path = match chance.below(5) {
            0 => String::new(),
            1 => "/devices/fuzz".to_owned(),
            2 => "/devices/fuzz/modules/other".to_owned(),
            3 => "/devices/fuz".to_owned(),
            _ => identity.to_string(),
        };
        let expiry = *chance.pick(&[0, 1, NOW_S - 301, NOW_S - 299, NOW_S, NOW_S + 60, u64::MAX]);
        let policy = chance.one_in(2).then(|| if chance.one_in(4) { "nobody" } else { role.name() });
        let token = Token::make(&key, &format!("{host}{path}"), expiry, policy);
        // In another order, as other SDKs write it.
        let Some((scheme, rest)) = token.split_once(' ') else { return token.into_bytes() };
        let mut pairs: Vec<&str> = rest.split('&').collect();
        let turn = chance.below(pairs.len());
        pairs.rotate_left(turn);
        format!("{scheme} {}", pairs.join("&")).into_bytes()
    }

    fn run(&self, input: &[u8]) -> String {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        let token = match Token::parse(text) {
            Ok(token) => token,
            Err(error) => return self.refused(text, &error),
        };
        match self.identities.authenticate(&token, &HOSTS, NOW_S as i64 * 1_000_000) {
            Err(error) => self.refused(text, &error),
            Ok(who) => {
                self.check(text, &who);
                format!("+{who}")
            }
        }
    }

    fn refused(&self, text: &str, error: &dinrail::identity::TokenError) -> String {
        let said = format!("{error} {error:?} {}", error.hint());
        let parameter = |name| text.split(['&', ' ']).find_map(|pair| pair.strip_prefix(name));
        // What the token itself says of its scope may be told.
        let signature =
            parameter("sig=").filter(|sig| sig.len() >= 40 && !parameter("sr=").unwrap_or("").contains(sig));
        for secret in self.secrets.iter().map(String::as_str).chain(signature) {
            assert!(
                !said.contains(secret) || text.replace(secret, "").len() + 2 * secret.len() <= text.len(),
                "a refusal tells '{secret}': {said}"
            );
        }
        let name: String = format!("{error:?}").chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
        name
    }

    /// Panics unless the text holds a signature by a key of `who`, for a host of ours, in time.
    fn check(&self, text: &str, who: &Principal) {
        let parameters = &text["SharedAccessSignature ".len()..].trim();
        let parameter = |name: &str| {
            let mut found = parameters.split('&').filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            (found.next(), found.next().is_some())
        };
        let ((Some(resource), false), (Some(signature), false), (Some(expiry), false)) =
            (parameter("sr"), parameter("sig"), parameter("se"))
        else {
            panic!("taken without its parts, or with two of one: {text}")
        };
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let given = STANDARD.decode(decoded(signature)).expect("a taken signature is base64");
        let signed = format!("{resource}\n{expiry}");
        let keys: Vec<SymmetricKey> = [KeySlot::Primary, KeySlot::Secondary]
            .map(|slot| match who {
                Principal::Identity(identity) => self.identities.key(identity, slot).unwrap(),
                Principal::Policy { role, .. } => self.identities.policy_key(*role, slot).unwrap(),
            })
            .into();
        assert!(
            keys.iter().any(|key| key.sign(signed.as_bytes())[..] == given),
            "taken with a wrong signature: {text}"
        );
        let expiry: u64 = decoded(expiry).trim().parse().expect("a taken expiry is a number");
        assert!(expiry.saturating_add(CLOCK_SKEW_S) >= NOW_S, "taken after its time: {text}");
        let resource = decoded(resource);
        let rest = resource.to_ascii_lowercase();
        assert!(HOSTS.iter().any(|host| rest.starts_with(host)), "taken for another host: {text}");
        if let Principal::Identity(identity) = who {
            let twice = decoded(&resource);
            let path = identity.to_string();
            assert!(resource.contains(&path) || twice.contains(&path), "{identity} by a token for {resource}");
            assert!(parameter("skn").0.is_none_or(str::is_empty), "an identity by a token of a policy: {text}");
        }
    }
}
