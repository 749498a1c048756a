use std::time::Duration;

use serde_json::json;

use super::*;

fn section(value: Value) -> DesiredSection {
    DesiredSection::Replace(value.as_object().unwrap().clone())
}

fn spec(name: &str, change: impl FnOnce(&mut InstanceSpec)) -> InstanceSpec {
    let mut spec = InstanceSpec::new(name, "filter:1");
    change(&mut spec);
    spec
}

fn manifest(modules: Vec<InstanceSpec>) -> Manifest {
    Manifest {
        text: String::new(),
        modules: modules.into_iter().map(|spec| (spec.name.clone(), spec)).collect(),
        desired: BTreeMap::new(),
        routes: Vec::new(),
        health: Duration::ZERO,
        store: Default::default(),
    }
}

fn actual(instances: Vec<(InstanceSpec, Origin, Status)>) -> Actual {
    let instances = instances.into_iter().map(|(spec, origin, status)| {
        let name = spec.name.clone();
        let (digest, held_by) = (None, None);
        (
            name,
            ActualInstance {
                spec,
                origin,
                was_local: false,
                status,
                is_going_down: false,
                digest,
                is_disabled: false,
                held_by,
                messages: 0,
                parked: 0,
            },
        )
    });
    Actual { instances: instances.collect(), ..Actual::default() }
}

/// `action name: reason` of each step.
fn shown(plan: &Plan) -> Vec<String> {
    plan.view(&[]).steps.iter().map(|step| format!("{} {}: {}", step.action, step.name, step.reason)).collect()
}

#[test]
fn what_goes_stops_in_reverse_and_what_comes_starts_in_order() {
    let ordered = |name: &str, order| spec(name, |spec| spec.startup_order = order);
    let current = actual(vec![
        (ordered("old-1", 1), Origin::Deployment, Status::Running),
        (ordered("old-2", 2), Origin::Deployment, Status::Running),
        (ordered("halt", 5), Origin::Deployment, Status::Running),
    ]);
    let mut halt = ordered("halt", 5);
    halt.status = DesiredStatus::Stopped;
    let mut wanted = manifest(vec![halt, ordered("b", 1), ordered("a", 2), ordered("c", 1)]);
    wanted.desired.insert("a".into(), section(json!({"x": 1})));
    wanted.routes.push(RouteSpec::new("up", "FROM /* INTO $upstream").unwrap());

    assert_eq!(
        shown(&plan(&current, &wanted)),
        [
            "stop halt: only status changed from running to stopped",
            "remove old-2: no longer in the manifest",
            "remove old-1: no longer in the manifest",
            "twin a: new twin",
            "route up: new: FROM /* INTO $upstream",
            "start b: new module",
            "start c: new module",
            "start a: new module",
        ]
    );
}

#[test]
fn identities_of_modules_that_go_stay_and_the_plan_says_so() {
    let named = |count: usize| {
        let gone = (1..=count).map(|i| (spec(&format!("old-{i}"), |_| {}), Origin::Deployment, Status::Running));
        plan(&actual(gone.collect()), &manifest(vec![])).notes
    };
    assert_eq!(named(0), [""; 0]);
    assert_eq!(
        named(2),
        ["identity and twin of old-2, old-1 stay until they are removed by name: dinrail remove NAME --purge"]
    );
    assert!(named(6)[0].starts_with("identity and twin of the 6 modules that are removed stay"));
}

#[test]
fn an_instance_of_a_disabled_identity_stays_stopped() {
    let mut current = actual(vec![(spec("a", |_| {}), Origin::Deployment, Status::Stopped)]);
    current.instances.values_mut().for_each(|actual| actual.is_disabled = true);
    let wanted = manifest(vec![spec("a", |spec| spec.restart_policy = crate::instance::spec::RestartPolicy::Never)]);

    let shown = shown(&plan(&current, &wanted));

    assert!(shown[0].starts_with("keep a: ") && shown[0].ends_with("(dinrail identity enable a)"), "{shown:?}");
}

#[test]
fn a_manifest_that_is_in_force_changes_nothing() {
    let mut wanted = manifest(vec![spec("a", |_| {})]);
    wanted.desired.insert("a".into(), section(json!({"x": 1})));
    wanted.routes.push(RouteSpec::new("up", "FROM /* INTO $upstream").unwrap());
    let mut current = actual(vec![(spec("a", |_| {}), Origin::Deployment, Status::Running)]);
    current.last_desired = wanted.desired.clone();
    // Patched by a person since: stays.
    current.desired.insert("a".into(), json!({"x": 2}));
    current.routes = wanted.routes.clone();

    let plan = plan(&current, &wanted);

    assert!(plan.is_empty());
    assert_eq!(shown(&plan), ["keep a: unchanged"]);
}

#[test]
fn each_change_of_a_module_gives_its_step_and_reason() {
    let image = |spec: &mut InstanceSpec| spec.image = "filter:2".into();
    let stopped = |spec: &mut InstanceSpec| spec.status = DesiredStatus::Stopped;
    let table: Vec<(InstanceSpec, Status, InstanceSpec, &str)> = vec![
        (spec("a", |_| {}), Status::Running, spec("a", image), "restart a: image changed from filter:1 to filter:2"),
        (
            spec("a", |_| {}),
            Status::Running,
            spec("a", |s| drop(s.env.insert("TZ".into(), "UTC".into()))),
            "restart a: env TZ added",
        ),
        (spec("a", |_| {}), Status::Backoff, spec("a", image), "restart a: image changed from filter:1 to filter:2"),
        (spec("a", |_| {}), Status::Running, spec("a", stopped), "stop a: only status changed from running to stopped"),
        (
            spec("a", stopped),
            Status::Stopped,
            spec("a", |_| {}),
            "start a: only status changed from stopped to running",
        ),
        (spec("a", stopped), Status::Stopped, spec("a", stopped), "keep a: unchanged: stopped"),
        (spec("a", |_| {}), Status::Failed, spec("a", |_| {}), "start a: was failed: a deployment tries it again"),
        (spec("a", |_| {}), Status::Failed, spec("a", image), "start a: image changed from filter:1 to filter:2"),
        (
            spec("a", |_| {}),
            Status::Quarantined,
            spec("a", |_| {}),
            "start a: was quarantined: a deployment tries it again",
        ),
        (spec("a", |_| {}), Status::Stopped, spec("a", |_| {}), "start a: was stopped: a deployment tries it again"),
    ];
    for (old, status, new, expected) in table {
        let current = actual(vec![(old, Origin::Deployment, status)]);
        assert_eq!(shown(&plan(&current, &manifest(vec![new]))), [expected]);
    }
}

#[test]
fn a_stop_by_a_person_holds_against_a_deployment() {
    let mut current = actual(vec![(spec("a", |_| {}), Origin::Deployment, Status::Stopped)]);
    current.instances.get_mut("a").unwrap().held_by = Some("ada".into());
    let wanted = manifest(vec![spec("a", |spec| spec.image = "filter:2".into())]);

    let plan = plan(&current, &wanted);

    let expected = "keep a: image changed from filter:1 to filter:2; stays stopped: ada stopped it (dinrail start a)";
    assert_eq!(shown(&plan), [expected]);
    assert!(matches!(&plan.steps[0], Step::Keep { spec, .. } if spec.image == "filter:2"));
}

#[test]
fn the_local_layer_is_kept_unless_the_manifest_has_the_name() {
    let current = actual(vec![
        (spec("dropped", |_| {}), Origin::Drop, Status::Running),
        (spec("added", |_| {}), Origin::Cli, Status::Running),
        (spec("same", |_| {}), Origin::Drop, Status::Running),
        (spec("other", |_| {}), Origin::Cli, Status::Running),
    ]);
    let wanted = manifest(vec![spec("same", |_| {}), spec("other", |spec| spec.image = "x".into())]);

    assert_eq!(
        shown(&plan(&current, &wanted)),
        [
            "restart other: image changed from filter:1 to x; taken over from a person",
            "keep added: not in the manifest; added by a person",
            "keep dropped: not in the manifest; started by its file in a watched folder",
            "keep same: taken over from the watched folder",
        ]
    );
}

#[test]
fn a_changed_section_says_which_local_edits_it_overwrites() {
    let current = |now: Value| Actual {
        last_desired: [("a".to_owned(), section(json!({"x": 1, "deep": {"y": 1, "z": 1}})))].into(),
        desired: [("a".to_owned(), now)].into(),
        ..Actual::default()
    };
    for (now, new, overwritten) in [
        (json!({"x": 1, "deep": {"y": 1, "z": 1}}), json!({"x": 2}), None),
        (json!({"x": 5, "deep": {"y": 1, "z": 1}}), json!({"x": 2}), Some("x")),
        (json!({"x": 5, "deep": {"y": 1, "z": 1}}), json!({"x": 5, "deep": {}}), None),
        (json!({"x": 1, "deep": {"y": 9, "z": 1}, "new": {"n": 1}}), json!({"x": 1}), Some("deep.y, new.n")),
    ] {
        let mut wanted = manifest(vec![]);
        wanted.desired.insert("a".into(), section(new));
        let plan = plan(&current(now.clone()), &wanted);
        let expected = match overwritten {
            None => "twin a: its section of the manifest changed".to_owned(),
            Some(paths) => {
                format!("twin a: its section of the manifest changed; overwrites what was set locally: {paths}")
            }
        };
        assert_eq!(shown(&plan), [expected], "{now}");
        assert!(plan.notes.is_empty(), "it is said once: {:?}", plan.notes);
    }
}

#[test]
fn a_merge_overwrites_only_what_it_names() {
    let current = Actual { desired: [("a".to_owned(), json!({"x": 5, "y": 5}))].into(), ..Actual::default() };
    let mut wanted = manifest(vec![]);
    let properties = json!({"x": 1}).as_object().unwrap().clone();
    wanted.desired.insert("a".into(), DesiredSection::Merge(properties));

    assert_eq!(
        shown(&plan(&current, &wanted)),
        ["twin a: its section is new in the manifest; overwrites what was set locally: x"]
    );
}

#[test]
fn a_section_that_the_manifest_no_longer_has_leaves_the_twin_alone() {
    let current = Actual {
        last_desired: [("a".to_owned(), section(json!({"x": 1})))].into(),
        desired: [("a".to_owned(), json!({"x": 1}))].into(),
        ..Actual::default()
    };
    assert!(plan(&current, &manifest(vec![])).steps.is_empty());
}

#[test]
fn routes_are_set_in_one_step_and_shown_one_by_one() {
    let route = |name: &str, text: &str| RouteSpec::new(name, text).unwrap();
    let current = Actual {
        routes: vec![
            route("same", "FROM /* INTO $upstream"),
            route("gone", "FROM /* INTO $upstream"),
            route("text", "FROM /* INTO $upstream"),
            route("priority", "FROM /* INTO $upstream"),
        ],
        ..Actual::default()
    };
    let mut wanted = manifest(vec![]);
    wanted.routes = vec![
        route("same", "FROM /* INTO $upstream"),
        route("text", "FROM /messages/* INTO $upstream"),
        RouteSpec { priority: 1, ..route("priority", "FROM /* INTO $upstream") },
        route("new", "FROM /* INTO $upstream"),
    ];

    let plan = plan(&current, &wanted);

    assert_eq!(plan.steps.len(), 1);
    assert_eq!(
        shown(&plan),
        [
            "route gone: removed: no longer in the manifest",
            "route text: changed to FROM /messages/* INTO $upstream",
            "route priority: priority changed from 2000000000 to 1",
            "route new: new: FROM /* INTO $upstream",
        ]
    );
}

fn here(digest: &str) -> Image {
    Image::Here { digest: format!("sha256:{digest}"), title: "filter 1.2.0".into() }
}

#[test]
fn what_an_image_reference_means_is_said_with_each_start() {
    let digest = "0123456789abcdef";
    let table = [
        (here(digest), "start a: new module; runs filter 1.2.0 (sha256:0123456789ab)"),
        (
            Image::Comes { digest: format!("sha256:{digest}") },
            "start a: new module; its image comes with the manifest (sha256:0123456789ab)",
        ),
        (Image::Missing("no filter here".into()), "start a: new module; waits for its image: no filter here"),
        (Image::Quarantined("too new".into()), "start a: new module; its image is quarantined: too new"),
    ];
    for (image, expected) in table {
        let mut current = Actual::default();
        current.images.insert("a".into(), Meaning { kept: image.clone(), afresh: image });
        assert_eq!(shown(&plan(&current, &manifest(vec![spec("a", |_| {})]))), [expected]);
    }
}

#[test]
fn a_reference_that_means_other_bytes_restarts_and_what_is_barred_does_not() {
    let mut current = actual(vec![(spec("a", |_| {}), Origin::Deployment, Status::Running)]);
    current.instances.get_mut("a").unwrap().digest = Some("sha256:old".into());
    let wanted = manifest(vec![spec("a", |_| {})]);

    current.images.insert("a".into(), Meaning { kept: here("old"), afresh: here("barred") });
    assert_eq!(shown(&plan(&current, &wanted)), ["keep a: unchanged"]);

    current.images.insert("a".into(), Meaning { kept: here("new"), afresh: here("new") });
    assert_eq!(
        shown(&plan(&current, &wanted)),
        [
            "restart a: filter:1 means other bytes now (sha256:new instead of sha256:old); runs filter 1.2.0 (sha256:new)"
        ]
    );
}

#[test]
fn what_goes_says_what_waits_for_it_and_that_it_does_not_come_back() {
    let mut current = actual(vec![
        (spec("a", |_| {}), Origin::Deployment, Status::Running),
        (spec("b", |_| {}), Origin::Deployment, Status::Running),
    ]);
    let a = current.instances.get_mut("a").unwrap();
    (a.messages, a.parked, a.was_local) = (3, 2, true);
    let mut stopped = spec("b", |spec| spec.status = DesiredStatus::Stopped);
    stopped.startup_order = 1;
    current.instances.get_mut("b").unwrap().messages = 1;

    let shown = shown(&plan(&current, &manifest(vec![stopped])));

    assert!(shown.contains(
        &"remove a: no longer in the manifest; that it was dropped or added before a deployment took it over does not bring it \
          back; 3 messages wait for it and stay queued; 2 messages for it that were set aside stay too"
            .to_owned()
    ), "{shown:?}");
    assert!(shown.iter().any(|line| line.ends_with("; 1 message waits for it and stays queued")), "{shown:?}");
}

#[test]
fn what_waits_where_a_route_no_longer_leads_is_named_with_the_route() {
    let route = |name: &str, input: &str| {
        RouteSpec::new(name, &format!("FROM /messages/modules/s/* INTO BrokeredEndpoint(\"{input}\")")).unwrap()
    };
    let mut current = actual(vec![
        (spec("a", |_| {}), Origin::Deployment, Status::Running),
        (spec("gone", |_| {}), Origin::Deployment, Status::Running),
        (spec("off", |_| {}), Origin::Deployment, Status::Running),
    ]);
    current.fed_locally = [Sink::Input { module: "gone".into(), input: "y".into() }].into();
    current.routes = vec![
        route("removed", "/modules/a/inputs/x"),
        route("moved", "/modules/a/inputs/x"),
        route("one", "/modules/a/inputs/y"),
        route("other", "/modules/a/inputs/y"),
        route("stays", "/modules/a/inputs/z"),
        route("to-gone", "/modules/gone/inputs/x"),
    ];
    let at = |module: &str, input: &str| (module.to_owned(), input.to_owned());
    current.waiting = [
        (at("a", "x"), 3),
        (at("a", "y"), 1),
        (at("a", "z"), 7),
        (at("a", "w"), 2),
        (at("gone", "x"), 5),
        (at("gone", "y"), 6),
        (at("off", "x"), 8),
    ]
    .into();
    let mut wanted = manifest(vec![spec("a", |_| {}), spec("off", |spec| spec.status = DesiredStatus::Stopped)]);
    wanted.routes = vec![
        route("moved", "/modules/a/inputs/z"),
        route("other", "/modules/a/inputs/y"),
        route("stays", "/modules/a/inputs/z"),
    ];

    let notes = plan(&current, &wanted).notes;

    let waiting: Vec<&str> = notes.iter().map(String::as_str).filter(|note| note.contains(" at input ")).collect();
    assert_eq!(
        waiting,
        [
            "2 messages wait at input w of a, to which no route leads any more: still delivered, in order",
            "3 messages wait at input x of a, to which no route leads any more (routes removed, moved did): still delivered, in order",
            "1 message waits at input y of a, to which route one led so far: still delivered, in order",
            "5 messages wait at input x of gone, which is not among the modules: kept until a module of this name takes them, or \
         until dinrail remove gone --purge discards them",
            "6 messages wait at input y of gone, which is not among the modules: kept until a module of this name takes them, or \
         until dinrail remove gone --purge discards them",
            "8 messages wait at input x of off, to which no route leads any more: delivered, in order, once it is started",
        ]
    );
}

#[test]
fn what_waits_for_the_hub_is_said_when_its_last_route_goes() {
    let up = |name: &str| RouteSpec::new(name, "FROM /messages/* INTO $upstream").unwrap();
    let current = Actual { routes: vec![up("one"), up("two")], upstream_bytes: 4096, ..Actual::default() };
    let mut wanted = manifest(vec![]);
    let said = |wanted: &Manifest, current: &Actual| {
        plan(current, wanted).notes.into_iter().find(|note| note.contains("$upstream"))
    };

    assert_eq!(
        said(&wanted, &current).unwrap(),
        "messages of 4096 bytes wait for $upstream, to which no route leads any more (routes one, two did): kept on disk until a \
         hub takes them"
    );
    assert_eq!(said(&wanted, &Actual { upstream_bytes: 0, ..current.clone() }), None);
    let locally = Actual { fed_locally: [Sink::Upstream].into(), ..current.clone() };
    assert_eq!(said(&wanted, &locally), None, "a route that was added by hand leads there still");
    wanted.routes = vec![up("two")];
    assert_eq!(said(&wanted, &current), None);
}

#[test]
fn the_health_gate_is_announced() {
    let mut wanted = manifest(vec![spec("a", |_| {}), spec("b", |_| {})]);
    let mut current = Actual::default();
    let said = |current: &Actual, wanted: &Manifest| plan(current, wanted).notes;

    assert_eq!(said(&current, &wanted), ["healthSecs is 0: no health gate, nothing is rolled back by itself"]);
    wanted.health = Duration::from_secs(5);
    assert_eq!(
        said(&current, &wanted),
        [
            "health gate: the 2 changed modules must stay up for 5 s; there is no good deployment to go back to otherwise"
        ]
    );
    current.last_good = Some(4);
    assert_eq!(
        said(&current, &wanted),
        ["health gate: the 2 changed modules must stay up for 5 s; else deployment 4 is put in force again"]
    );
}
