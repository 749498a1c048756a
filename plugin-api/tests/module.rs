//! What a module author is promised, through the same tables as in the runtime.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Duration;

use dinrail_plugin::ErrorKind;
use dinrail_plugin::prelude::*;
use dinrail_plugin::testing::{Bench, Verdict};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Desired {
    limit: f64,
    mode: String,
}

impl Default for Desired {
    fn default() -> Desired {
        Desired { limit: 70.0, mode: "plain".into() }
    }
}

/// Does whatever the message on its input `do` says.
struct Rig {
    client: Client,
    out: Output,
    desired: Desired,
    changes: u32,
    deferred: Option<Deferred>,
    kept: Option<dinrail_plugin::KeptMessage>,
    once: Option<Timer>,
}

impl Module for Rig {
    type Desired = Desired;
    const INPUTS: &'static [&'static str] = &["in", "do"];
    const OUTPUTS: &'static [&'static str] = &["out"];
    const METHODS: &'static [&'static str] = &["state"];

    fn create(client: Client, desired: Desired) -> Result<Rig, Error> {
        match desired.mode.as_str() {
            "refuse" => return Err(Error::refused("mode: 'refuse' is not a mode")),
            "fail" => return Err("no such sensor").context("probing"),
            "panic" => panic!("boom in create"),
            _ => {}
        }
        let out = client.output("out")?;
        Ok(Rig { client, out, desired, changes: 0, deferred: None, kept: None, once: None })
    }

    fn start(&mut self) -> Result<(), Error> {
        self.client.health(Level::Info, "ready");
        self.client.every(Duration::from_secs(2))?;
        self.once = Some(self.client.after(Duration::from_secs(3))?);
        Ok(())
    }

    fn on_message(&mut self, message: &Message<'_>, delivery: &Delivery<'_>) -> Result<(), Fault> {
        if message.input() == "in" {
            assert_eq!(message.input_index(), Some(0));
            delivery.send(self.out, message)?;
            return Ok(());
        }
        assert_eq!(message.input_index(), Some(1));
        delivery.send(self.out, "staged")?;
        delivery.patch_reported(json!({"staged": true, "nested": {"a": 1}}))?;
        match message.text()? {
            "accept" => Ok(()),
            "retry" => Err(Fault::retry_after(Duration::from_millis(1500))),
            "park" => Err(Fault::park("not for me")),
            "fail" => Err(std::fs::read("/no/such/file").context("opening the journal").unwrap_err().into()),
            "panic" => panic!("boom {}", 42),
            "defer" => {
                self.deferred = Some(delivery.defer());
                Ok(())
            }
            "decide accept" => Ok(self.deferred.take().unwrap().accept()?),
            "decide park" => Ok(self.deferred.take().unwrap().park("later no")?),
            "decide nothing" => {
                self.deferred = None;
                Ok(())
            }
            "keep" => {
                self.kept = Some(delivery.keep()?);
                Ok(())
            }
            "send kept" => Ok(self.client.send_message_to_output("out", &self.kept.take().unwrap().message())?),
            "report" => Ok(self.client.patch_reported(json!({"now": 1}))?),
            "hub" => Ok(self.client.send_message(Outgoing::json(&json!({"a": 1}))?.property("k", "v"))?),
            "begin" => {
                let client = self.client.clone();
                let then =
                    move |sent: Result<(), Error>| client.health(Level::Info, &format!("sent: {}", sent.is_ok()));
                Ok(self.client.begin_send(self.out, "begun", then)?)
            }
            "await" => {
                let sending = self.client.start_send(self.out, "awaited")?;
                let then = self.client.start_send(self.out, "then")?;
                assert!(sending.has_ended());
                Ok(sending.wait().and_then(|()| then.wait())?)
            }
            "log" => {
                tracing::warn!(plc = 3, name = "x", "lost {}", "it");
                Ok(())
            }
            "invoke" => {
                let answer =
                    self.client.invoke_method("/devices/d/modules/m", "reset", json!(1), Duration::from_secs(1))?;
                self.client.patch_reported(json!({"status": answer.status, "payload": answer.payload}))?;
                Ok(())
            }
            other => Err(format!("unknown: {other}").into()),
        }
    }

    fn on_desired(&mut self, desired: Desired) -> Result<(), Error> {
        if desired.limit < 0.0 {
            return Err("limit: must not be negative".into());
        }
        self.changes += 1;
        self.desired = desired;
        Ok(())
    }

    fn on_method(&mut self, call: &MethodCall<'_>) -> Result<MethodResponse, Error> {
        match call.name() {
            "state" => MethodResponse::ok(json!({"changes": self.changes, "limit": self.desired.limit})),
            "teapot" => Ok(MethodResponse::new(418, call.json()?)),
            "panic" => panic!("boom in method"),
            "token" => MethodResponse::ok(json!([
                self.client.sign(b"a")?.len(),
                self.client.token(Duration::from_secs(60))?,
                self.client.token_for("plant.example", Duration::from_secs(60))?,
                self.client.token(Duration::ZERO).is_err(),
            ])),
            name => Err(Error::not_found(format!("no '{name}'"))),
        }
    }

    fn on_timer(&mut self, timer: Timer, missed: u64) -> Result<(), Error> {
        let which = if Some(timer) == self.once { "once" } else { "every" };
        self.client.send_message_to_output(self.out, format!("{which} {missed}"))
    }

    fn stop(&mut self) -> Result<(), Error> {
        tracing::info!("stopped");
        Ok(())
    }
}
export_module!(Rig);

fn bench() -> Bench {
    let mut bench = Bench::new::<Rig>(json!({})).create().unwrap();
    bench.start().unwrap();
    bench
}

fn texts(bench: &Bench) -> Vec<String> {
    bench.sent("out").iter().map(|sent| sent.text().to_owned()).collect()
}

#[test]
fn what_a_handler_stages_is_committed_with_its_ok_and_only_then() {
    let mut bench = bench();
    for (text, expected) in [
        ("retry", Verdict::Retry { after: Some(Duration::from_millis(1500)) }),
        ("park", Verdict::Parked("not for me".into())),
        ("unheard of", Verdict::Failed("unknown: unheard of".into())),
    ] {
        assert_eq!(bench.message("do", text).deliver(), expected);
    }
    assert_eq!((texts(&bench).len(), bench.reported()), (0, json!({})));

    assert_eq!(bench.message("do", "accept").deliver(), Verdict::Accepted);
    assert_eq!(texts(&bench), ["staged"]);
    assert_eq!(bench.reported(), json!({"staged": true, "nested": {"a": 1}}));
}

#[test]
fn a_failed_handler_tells_the_whole_chain_of_causes() {
    let Verdict::Failed(reason) = bench().message("do", "fail").deliver() else { panic!("not failed") };
    assert!(reason.starts_with("opening the journal: ") && reason.contains("os error"), "{reason}");
}

#[test]
fn a_forwarded_message_keeps_body_and_properties() {
    let mut bench = bench();
    let body = "x".repeat(1000);
    let message = bench.message("in", &body).property("a", "1").property("b", "").content_type("text/plain");
    assert_eq!(message.deliver(), Verdict::Accepted);
    let sent = bench.sent("out").remove(0);
    assert_eq!((sent.text(), sent.property("a"), sent.property("b")), (body.as_str(), Some("1"), Some("")));
    assert_eq!(sent.content_type.as_deref(), Some("text/plain"));
}

#[test]
fn deferred_messages_end_when_they_are_decided_and_are_retried_when_forgotten() {
    let mut bench = bench();
    for decision in ["decide accept", "decide park", "decide nothing"] {
        assert_eq!(bench.message("do", "defer").deliver(), Verdict::Deferred);
        let before = texts(&bench).len();
        assert_eq!(bench.message("do", decision).deliver(), Verdict::Accepted);
        let committed = if decision == "decide accept" { 2 } else { 1 };
        assert_eq!(texts(&bench).len(), before + committed, "{decision}");
    }
    let retry = Verdict::Retry { after: None };
    assert_eq!(bench.decided(), [Verdict::Accepted, Verdict::Parked("later no".into()), retry]);
}

#[test]
fn a_kept_message_outlives_its_delivery() {
    let mut bench = bench();
    assert_eq!(bench.message("do", "keep").property("k", "v").deliver(), Verdict::Accepted);
    bench.clear_sent();
    assert_eq!(bench.message("do", "send kept").deliver(), Verdict::Accepted);
    let sent = bench.sent("out").remove(0);
    assert_eq!((sent.text(), sent.property("k")), ("keep", Some("v")));
}

#[test]
fn calls_outside_of_the_delivery_are_committed_at_once() {
    let mut bench = bench();
    assert_eq!(bench.message("do", "report").deliver(), Verdict::Accepted);
    assert_eq!(bench.reported()["now"], 1);
    assert_eq!(bench.message("do", "hub").deliver(), Verdict::Accepted);
    let sent = bench.sent("").remove(0);
    assert_eq!((sent.json::<Value>(), sent.property("k")), (json!({"a": 1}), Some("v")));
    assert_eq!(sent.content_type.as_deref(), Some("application/json"));
}

#[test]
fn a_send_that_is_begun_tells_its_end() {
    let mut bench = bench();
    assert_eq!(bench.message("do", "begin").deliver(), Verdict::Accepted);
    assert_eq!(bench.health().unwrap().1, "sent: true");
}

#[test]
fn a_send_that_is_started_tells_its_end_to_who_waits_for_it() {
    let mut bench = bench();
    assert_eq!(bench.message("do", "await").deliver(), Verdict::Accepted);
    let sent: Vec<String> = bench.sent("out").iter().map(|sent| sent.text().to_owned()).collect();
    assert!(sent.ends_with(&["awaited".to_owned(), "then".to_owned(), "staged".to_owned()]), "{sent:?}");
}

#[test]
fn desired_properties_are_overlaid_on_the_defaults_and_refused_with_the_path() {
    let mut bench = bench();
    bench.desired(json!({"limit": 5})).unwrap();
    assert_eq!(bench.method("state", ()).unwrap().payload, json!({"changes": 1, "limit": 5.0}));

    let refused = bench.desired(json!({"limit": "x"})).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("limit: invalid type: string \"x\", expected f64"), "{refused}");
    let refused = bench.desired(json!({"limit": -1})).unwrap_err();
    assert!(refused.to_string().contains("limit: must not be negative"), "{refused}");
    assert_eq!(bench.method("state", ()).unwrap().payload, json!({"changes": 1, "limit": 5.0}));

    bench.desired(json!({"limit": null})).unwrap();
    assert_eq!(bench.method("state", ()).unwrap().payload, json!({"changes": 2, "limit": 70.0}));
}

#[test]
fn create_tells_refused_properties_from_other_failures() {
    let create = |desired| Bench::new::<Rig>(desired).create().err().unwrap();
    for (desired, kind, said) in [
        (json!({"limit": []}), ErrorKind::Refused, "limit: invalid type: sequence, expected f64"),
        (json!({"mode": "refuse"}), ErrorKind::Refused, "mode: 'refuse' is not a mode"),
        (json!({"mode": "fail"}), ErrorKind::Failed, "probing: no such sensor"),
        (json!({"mode": "panic"}), ErrorKind::Failed, "boom in create"),
    ] {
        let error = create(desired);
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn schema_and_defaults_come_from_the_type() {
    let bench = bench();
    assert_eq!(bench.defaults().unwrap(), json!({"limit": 70.0, "mode": "plain"}));
    assert_eq!(bench.schema().unwrap()["properties"]["limit"]["type"], "number");
}

#[test]
fn a_panic_is_caught_with_its_place_and_nothing_but_stop_follows() {
    let mut bench = bench();
    let Verdict::Panicked(reason) = bench.message("do", "panic").deliver() else { panic!("not caught") };
    assert!(reason.contains("tests/module.rs:") && reason.contains("boom 42"), "{reason}");
    let logged = bench.logs().into_iter().find(|line| line.target == "panic").unwrap();
    assert_eq!((logged.level, logged.text.lines().next()), (Level::Error, Some("panicked: boom 42")));
    assert!(logged.place.unwrap().contains("tests/module.rs:"));

    assert!(matches!(bench.message("do", "accept").deliver(), Verdict::Panicked(_)));
    assert!(bench.method("state", ()).is_err());
    assert_eq!((texts(&bench).len(), bench.reported()), (0, json!({})));
    bench.stop().unwrap();
    assert!(bench.logs().iter().any(|line| line.text == "stopped"));
}

#[test]
fn methods_answer_with_status_and_payload_and_unknown_ones_are_not_found() {
    let mut bench = bench();
    assert_eq!(bench.method("teapot", json!([1])).unwrap(), MethodResponse::new(418, json!([1])));
    assert_eq!(bench.method("nope", ()).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(bench.method("panic", ()).unwrap_err().to_string().contains("boom in method"));
}

#[test]
fn methods_of_others_are_invoked_and_their_absence_is_said() {
    let mut bench = bench();
    let Verdict::Failed(reason) = bench.message("do", "invoke").deliver() else { panic!("not failed") };
    assert_eq!(reason, "invoke_method /devices/d/modules/m reset: not found");
    bench.answer_method("/devices/d/modules/m", "reset", MethodResponse::new(201, json!("done")));
    assert_eq!(bench.message("do", "invoke").deliver(), Verdict::Accepted);
    assert_eq!(bench.reported()["payload"], "done");
}

#[test]
fn timers_fire_in_order_and_tell_missed_ticks() {
    let mut bench = bench();
    assert_eq!(bench.advance(Duration::from_secs(4)).unwrap(), 3);
    assert_eq!(texts(&bench), ["every 0", "once 0", "every 0"]);
    let every = bench.timers()[0];
    bench.fire(every, 7).unwrap();
    assert_eq!(texts(&bench).last().unwrap(), "every 7");
}

#[test]
fn events_arrive_in_the_log_with_their_fields() {
    let mut bench = bench();
    assert_eq!(bench.message("do", "log").deliver(), Verdict::Accepted);
    let line = bench.logs().remove(0);
    assert_eq!((line.level, line.text.as_str()), (Level::Warn, "lost it plc=3 name=\"x\""));
    assert!(line.place.unwrap().contains("tests/module.rs:"));
}

#[test]
fn identity_env_folders_and_twin_are_the_instances_own() {
    struct Looks;
    impl Module for Looks {
        type Desired = Value;
        fn create(client: Client, _: Value) -> Result<Looks, Error> {
            assert_eq!((client.identity(), client.module()), ("/devices/bench/modules/looks", "looks"));
            assert_eq!((client.device(), client.env("LINE"), client.env("NONE")), ("bench", Some("3"), None));
            assert_eq!(client.envs().collect::<Vec<_>>(), [("LINE", "3")]);
            assert_eq!(client.data_folder().is_err(), client.is_trial());
            if !client.is_trial() {
                assert!(client.data_folder()?.is_dir());
            }
            let twin = client.get_twin()?;
            assert_eq!((&twin.desired, twin.desired_version), (&json!({"a": 1}), 1));
            let sent = client.send_message("x").map_err(|e| e.kind());
            assert_eq!(sent.is_err(), client.is_trial());
            Ok(Looks)
        }
    }
    let build = || Bench::new::<Looks>(json!({"a": 1})).name("looks").env("LINE", "3");
    let bench = build().create().unwrap();
    assert_eq!(bench.sent("").len(), 1);
    let folder = bench.data_folder().to_owned();
    drop(bench);
    assert!(!folder.exists());
    build().trial().create().unwrap();
}

/// Has a thread that posts what it is sent.
struct Threaded {
    client: Client,
    results: Vec<u32>,
}

impl Module for Threaded {
    type Desired = Value;
    fn create(client: Client, _: Value) -> Result<Threaded, Error> {
        Ok(Threaded { client, results: Vec::new() })
    }
    fn start(&mut self) -> Result<(), Error> {
        let client = self.client.clone();
        self.client.spawn("poll", move |stop| {
            tracing::info!("polling");
            let post = client.post(|module: &mut Threaded| {
                module.results.push(7);
                module.client.patch_reported(json!({ "results": module.results }))
            });
            post.unwrap();
            while !stop.wait(Duration::from_secs(600)) {}
            client.patch_reported(json!({"ended": true})).unwrap();
        })
    }
    fn on_method(&mut self, call: &MethodCall<'_>) -> Result<MethodResponse, Error> {
        match call.name() {
            "other" => {
                self.client.post(|_: &mut Rig| Ok(()))?;
            }
            _ => self.client.spawn("bad", |_| panic!("boom in thread"))?,
        }
        MethodResponse::ok(())
    }
}

#[test]
fn a_module_proves_who_it_is_without_ever_seeing_its_key() {
    let mut bench = Bench::new::<Rig>(json!({})).create().unwrap();
    bench.start().unwrap();

    let answer = bench.method("token", json!(null)).unwrap().payload;

    assert_eq!((&answer[0], &answer[3]), (&json!(32), &json!(true)));
    let token = answer[1].as_str().unwrap();
    assert!(token.starts_with("SharedAccessSignature sr=localhost%2Fdevices%2Fbench%2Fmodules%2F"), "{token}");
    assert!(token.contains("&sig=") && token.contains("&se="), "{token}");
    assert!(answer[2].as_str().unwrap().contains("sr=plant.example%2Fdevices"), "{answer}");
}

#[test]
fn threads_bring_results_home_and_are_joined_at_stop() {
    let mut bench = Bench::new::<Threaded>(json!({})).create().unwrap();
    bench.start().unwrap();
    assert!(bench.wait_for_post(Duration::from_secs(20)).unwrap());
    assert_eq!(bench.reported(), json!({"results": [7]}));
    assert!(bench.logs().iter().any(|line| line.text == "polling"));

    bench.stop().unwrap();
    assert_eq!(bench.reported()["ended"], true);
    assert_eq!(bench.method("spawn after stop", ()).unwrap_err().kind(), ErrorKind::Failed);
}

#[test]
fn a_panic_in_a_thread_fails_the_instance() {
    let mut bench = Bench::new::<Threaded>(json!({})).create().unwrap();
    bench.method("bad", ()).unwrap();
    bench.stop().unwrap();
    let reason = bench.failed().unwrap();
    assert!(reason.starts_with("thread 'bad' panicked at ") && reason.contains("boom in thread"), "{reason}");
}

#[test]
fn a_closure_for_another_type_of_module_is_refused() {
    let mut bench = Bench::new::<Threaded>(json!({})).create().unwrap();
    let refused = bench.method("other", ()).unwrap_err();
    assert!(refused.to_string().contains("this instance is not a module::Rig"), "{refused}");
}

#[test]
fn a_client_that_outlives_its_instance_is_told_so() {
    static LEFT: std::sync::Mutex<Option<Client>> = std::sync::Mutex::new(None);
    struct Leaves;
    impl Module for Leaves {
        type Desired = Value;
        fn create(client: Client, _: Value) -> Result<Leaves, Error> {
            *LEFT.lock().unwrap() = Some(client);
            Ok(Leaves)
        }
    }
    drop(Bench::new::<Leaves>(json!({})).create().unwrap());
    let client = LEFT.lock().unwrap().take().unwrap();
    assert_eq!(client.send_message("x").unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(client.patch_reported(json!({})).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(client.get_twin().unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(client.post(|_: &mut Leaves| Ok(())).unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(client.spawn("late", |_| ()).unwrap_err().kind(), ErrorKind::Gone);
}

#[test]
fn a_full_receiver_is_a_kind_of_error_that_a_module_can_tell() {
    let mut bench = bench();
    bench.set_full(true);
    let Verdict::Failed(reason) = bench.message("in", "x").deliver() else { panic!("sent") };
    assert!(reason.starts_with("send: a receiver's queue stayed full"), "{reason}");
    bench.set_full(false);
    assert_eq!(bench.message("in", "x").deliver(), Verdict::Accepted);
}

#[test]
fn the_exported_table_carries_the_descriptor() {
    unsafe extern "C" {
        static DINRAIL_MODULE_V1: dinrail_plugin::abi::DrModule;
    }
    // SAFETY: exported by `export_module!` above.
    let table = unsafe { &DINRAIL_MODULE_V1 };
    // SAFETY: a static.
    let descriptor: Value = serde_json::from_slice(unsafe { table.descriptor.bytes() }).unwrap();
    assert_eq!((&descriptor["name"], &descriptor["inputs"]), (&json!("dinrail-plugin"), &json!(["in", "do"])));
}

#[cfg(feature = "abi-proof")]
#[test]
fn the_exported_table_carries_a_layout_that_holds() {
    use dinrail_plugin::abi::{DR_EXTENSION_LAYOUT, DrLayoutProof, DrModule, DrText};
    unsafe extern "C" {
        static DINRAIL_MODULE_V1: DrModule;
    }
    // SAFETY: exported by `export_module!` above; the proof is a static of this program.
    unsafe {
        let extension = DINRAIL_MODULE_V1.extension.unwrap();
        let proof = extension(DrText::new(DR_EXTENSION_LAYOUT)).cast::<DrLayoutProof>().as_ref().unwrap();
        assert_eq!(dinrail_plugin::proof::check_layout(proof), Ok(()));
        assert!(extension(DrText::new("unheard of")).is_null());
    }
}

/// Reports into the device's twin what it is told of it.
struct OnDevice {
    client: Client,
    refusal: Option<String>,
}

impl Module for OnDevice {
    type Desired = std::collections::BTreeMap<String, Value>;
    const INPUTS: &'static [&'static str] = &["in"];

    fn create(client: Client, _: Self::Desired) -> Result<OnDevice, Error> {
        Ok(OnDevice { client, refusal: None })
    }

    fn start(&mut self) -> Result<(), Error> {
        self.refusal = self.client.device_client().err().map(|error| error.to_string());
        Ok(())
    }

    fn on_message(&mut self, message: &Message<'_>, delivery: &Delivery<'_>) -> Result<(), Fault> {
        self.client.device_client()?.patch_reported_under(delivery, json!({ "said": message.text()? }))?;
        if message.text()? == "park" { Err(Fault::park("no")) } else { Ok(()) }
    }

    fn on_device_desired(&mut self, change: &DeviceDesired<'_>) -> Result<(), Error> {
        let device = self.client.device_client()?;
        let told = json!({"patch": change.patch()?, "whole": change.desired()?, "isWhole": change.is_whole()});
        device.patch_reported(json!({ (change.version().to_string()): told }))
    }

    fn on_method(&mut self, _: &MethodCall<'_>) -> Result<MethodResponse, Error> {
        let device = self.client.device_client()?;
        let twin = device.get_twin()?;
        MethodResponse::ok(
            json!({"identity": device.identity(), "mayReport": device.may_report(), "limit": twin.desired["limit"]}),
        )
    }
}

#[test]
fn the_devices_own_twin_has_the_same_calls_where_it_is_permitted() {
    let mut bench = Bench::new::<OnDevice>(json!({})).device_twin(json!({"limit": 1}), true).create().unwrap();
    bench.start().unwrap();
    bench.device_desired(json!({"zone": "a"})).unwrap();

    let first = json!({"patch": {"limit": 1}, "whole": {"limit": 1}, "isWhole": true});
    let second = json!({"patch": {"zone": "a"}, "whole": {"limit": 1, "zone": "a"}, "isWhole": false});
    assert_eq!(bench.device_reported(), json!({"1": first, "2": second}));
    assert_eq!(bench.reported(), json!({}), "its own is another");
    let answer = bench.method("state", ()).unwrap().payload;
    assert_eq!(answer, json!({"identity": "/devices/bench", "mayReport": true, "limit": 1}));

    assert_eq!(bench.message("in", "park").deliver(), Verdict::Parked("no".into()));
    assert_eq!(bench.device_reported()["said"], Value::Null, "what was staged is discarded");
    assert_eq!(bench.message("in", "hello").deliver(), Verdict::Accepted);
    assert_eq!(bench.device_reported()["said"], "hello");
}

#[test]
fn a_device_twin_that_is_not_permitted_is_refused_with_what_to_write() {
    let mut bench = Bench::new::<OnDevice>(json!({})).name("pump").create().unwrap();
    bench.start().unwrap();
    let refused = bench.method("state", ()).unwrap_err().to_string();
    let expected = "write \"deviceTwin\": \"read\" into settings.createOptions of pump";
    assert!(refused.contains(expected), "{refused}");

    let mut bench = Bench::new::<OnDevice>(json!({})).name("pump").device_twin(json!({}), false).create().unwrap();
    let refused = bench.start().unwrap_err().to_string();
    assert!(refused.contains("write \"deviceTwin\": \"report\" into settings.createOptions of pump"), "{refused}");
}
