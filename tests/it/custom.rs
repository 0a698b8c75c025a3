//! `ekiben deploy` for platforms that bring kinds of their own: a real API server with their definitions takes what it writes, and
//! what their admissions would refuse is said before.
//!
//! The definitions are upstream's, reduced (`scripts/custom-resources.py`). What their admissions refuse besides is written down
//! here from their sources, as they run in no cluster of ours.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::deploy::{Deployer, of_kubernetes};
use crate::home::cluster::{Cluster, Namespace, VERSIONS, documents, fits};
use crate::home::restricted::is_restricted;
use crate::home::{names, ran, wait_until};

/// The cluster that knows the kinds.
fn cluster() -> &'static Cluster {
    static KNOWN: OnceLock<()> = OnceLock::new();
    let cluster = Cluster::shared();
    KNOWN.get_or_init(|| {
        let folder = "tests/it/home/custom";
        for name in names(Path::new(folder)) {
            ran(&mut cluster.kubectl(&["create", "-f", &format!("{folder}/{name}")])).ok();
        }
        // What it knows of their fields comes a little later than the kinds.
        for definition in cluster.namespace("known").list("customresourcedefinitions", "") {
            let (names, group) = (&definition["spec"]["names"], &definition["spec"]["group"]);
            let spec = format!("{}.spec", names["plural"].as_str().unwrap());
            let version = &definition["spec"]["versions"][0]["name"];
            let version = format!("--api-version={}/{}", group.as_str().unwrap(), version.as_str().unwrap());
            wait_until(&spec, || ran(&mut cluster.kubectl(&["explain", &spec, &version])).code == Some(0));
        }
    });
    cluster
}

/// Settings that a kind has in all ways that go together, and what they are for.
const WAYS: [(&str, &str); 24] = [
    ("gateway", "expose: {host: m.example.org, gateway: edge/public}"),
    ("a path of a gateway", "expose: {host: '*.example.org', path: /iris, gateway: public}"),
    ("trident", "namespace: NAMESPACE\nmodels: pvc:weights\nstorage: {class: nas, size: 10Gi, shared: models/weights}"),
    ("trident's other side", "models: pvc:weights\nstorage: {class: nas, size: 10Gi, share: [a, '*']}"),
    ("knative", "kind: knative"),
    ("knative, always", "kind: knative\nstrategy: ALWAYS_ON\nreplicas: 2"),
    ("knative, immediate", "kind: knative\nstrategy: IMMEDIATE\nautoscale: 0..9"),
    (
        "knative, timeout",
        "kind: knative\nstrategy: TIMEOUT\ntimeout: 3600\nstart: 20m\nresources: {gpus: 1, memory: 2Gi}",
    ),
    (
        "knative, all",
        "kind: knative\nautoscale: 1..4\nannotations: {autoscaling.knative.dev/target: '5', a: b}\nlabels: {a/b: c}\n\
         secrets: [all, {name: some, variables: {A: a}}, {name: files.of.mine, path: /secrets}]\npull: [registry]\nenv: {B: c}",
    ),
    (
        "keda, requests",
        "kind: keda\nnamespace: NAMESPACE\nexpose: {host: m.example.org, gateway: edge/public, interceptor: NAMESPACE/proxy}",
    ),
    (
        "keda, requests of an ingress",
        "kind: keda\nautoscale: 0..4\nexpose: {host: m.example.org, ingress: nginx, tls: cert}",
    ),
    (
        "keda, always",
        "kind: keda\nautoscale: 1..4\nexpose: {host: m.example.org, interceptor: http/proxy}\nnetwork: closed",
    ),
    (
        "keda, hours",
        "kind: keda\nreplicas: 3\nschedule: {start: 0 7 * * 1-5, stop: 0 19 * * MON-FRI, zone: Europe/Berlin}",
    ),
    (
        "keda, triggers",
        "kind: keda\nstrategy: TIMEOUT\ntimeout: 60\nautoscale: {min: 0, max: 9, metrics: [{cpu: 70}, {memory: 80}]}\n\
         triggers: [{type: prometheus, metadata: {query: q, threshold: '1'}, authenticationRef: {name: p}}]\n\
         nodes: {gpu: a100}\ntolerations: [{key: gpu, operator: Exists}]\nexpose: {host: m.example.org, path: /x, gateway: g}",
    ),
    ("keda, s3", "kind: keda\nmodels: s3://weights/tiny/\nfetcher: {image: 'a/b:1'}\nexpose: {host: m.example.org}"),
    ("keda, claim", "kind: keda\nmodels: pvc:weights\nautoscale: {min: 1, max: 3, metrics: [{cpu: 50}]}"),
    ("keda, node", "kind: keda\nmodels: node\nnodes: {models: tiny}\nexpose: {host: m.example.org}"),
    ("kserve", "kind: kserve"),
    ("kserve, none", "kind: kserve\nstrategy: TIMEOUT\nannotations: {a: b}\nlabels: {a/b: c}"),
    (
        "kserve, scaled",
        "kind: kserve\nautoscale: {min: 1, max: 3, metrics: [{cpu: 50}, {memory: 80}]}\nannotations: {a: b}",
    ),
    ("kserve, s3", "kind: kserve\nmodels: s3://weights/tiny/\nfetcher: {image: 'a/b:1'}\nresources: {gpus: 1}"),
    ("kserve, claim", "kind: kserve\nmodels: pvc:weights\nfill: s3://weights/\nfetcher: {image: 'a/b:1'}\nreplicas: 2"),
    ("kserve, node", "kind: kserve\nmodels: node\nnodes: {models: tiny}\ntolerations: [{key: gpu, operator: Exists}]"),
    ("kserve, from none to many", "kind: kserve\nautoscale: 0..4\nsecrets: [{name: files, path: /secrets}]"),
];

/// What a deployment is asked for besides its settings.
struct Way<'a> {
    deployer: &'a Deployer,
    namespace: Namespace<'a>,
}

impl<'a> Way<'a> {
    fn new(deployer: &'a Deployer, settings: &str) -> Self {
        let namespace = cluster().namespace("custom");
        deployer.home.write("way.yaml", settings.replace("NAMESPACE", &namespace.name));
        Self { deployer, namespace }
    }

    /// `ekiben deploy` in the namespace.
    fn command(&self, args: &[&str]) -> Command {
        // What the kinds bring is of their own version; that of the rest is the cluster's.
        let of = ["deploy", &self.deployer.image, "--settings", "way.yaml", "--namespace", &self.namespace.name];
        let version: &[&str] = if args.contains(&"--kubernetes") { &[] } else { &["--kubernetes", "1.25"] };
        let mut command = self.deployer.home.command([&of, version, args].concat());
        self.namespace.cluster.known_to(&mut command);
        command
    }

    /// The objects of the kinds, with the number of their changes.
    fn objects(&self) -> Vec<Value> {
        let kinds = "httproutes,scaledobjects.keda.sh,httpscaledobjects.http.keda.sh,services.serving.knative.dev,\
                     inferenceservices,tridentvolumereferences,deployments,services";
        let listed = self.namespace.list(kinds, "app.kubernetes.io/managed-by=ekiben");
        listed.into_iter().map(|one| json!([one["kind"], one["metadata"]["generation"], one["spec"]])).collect()
    }
}

#[test]
fn kinds_of_other_platforms_are_applied_changed_and_deleted() {
    let deployer = Deployer::new();
    let mut all = String::new();
    for (what, settings) in WAYS {
        let way = Way::new(&deployer, settings);
        let yaml = ran(&mut way.command(&[])).ok().out;
        is_restricted(&yaml);
        documents(&yaml).iter().for_each(admitted);
        all += &yaml;
        ran(&mut way.command(&["--apply"])).ok();
        let first = way.objects();
        assert!(!first.is_empty(), "{what}");
        ran(&mut way.command(&["--apply"])).ok();
        assert_eq!(way.objects(), first, "{what}: applied again, nothing changes");
        ran(&mut way.command(&["--diff"])).ok();
        ran(&mut way.command(&["--apply", "--env", "CHANGED=yes"])).ok();
        let changed = way.objects();
        assert_ne!(changed, first, "{what}");
        assert_eq!(changed.iter().filter(|one| one.to_string().contains("CHANGED")).count(), 1, "{what}");
        ran(&mut way.command(&["--delete"])).ok();
        assert_eq!(way.objects(), Vec::<Value>::new(), "{what}");
    }
    VERSIONS.into_iter().for_each(|version| fits(&of_kubernetes(&all), version));
    // A route to another namespace. The old API server reads the group without a name as null.
    let there = cluster().namespace("there");
    let settings =
        format!("kind: keda\nexpose: {{host: m.example.org, gateway: g, interceptor: {}/proxy}}", there.name);
    let way = Way::new(&deployer, &settings);
    let yaml = ran(&mut way.command(&[])).ok().out;
    let grant = yaml.split("---\n").find(|document| document.contains("kind: ReferenceGrant")).unwrap();
    assert!(grant.contains("group: ''") || grant.contains("group: \"\""), "{grant}");
    there.apply(&grant.replace("group: ''", "group: core").replace("group: \"\"", "group: core"));
}

/// What the admissions of Knative and KServe hold an object to, besides its schema.
fn admitted(object: &Value) {
    let (spec, annotations) = match (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap()) {
        ("serving.knative.dev/v1", _) => {
            let template = &object["spec"]["template"];
            (&template["spec"], &template["metadata"]["annotations"])
        }
        (_, "InferenceService") => {
            let predictor = &object["spec"]["predictor"];
            assert_eq!(predictor["containers"][0]["name"], "kserve-container");
            let mode = &object["metadata"]["annotations"]["serving.kserve.io/deploymentMode"];
            // A HorizontalPodAutoscaler knows no 0; Knative's admission knows no strategy of a Deployment.
            assert_eq!(*mode, if predictor["minReplicas"] == 0 { "Knative" } else { "Standard" });
            assert_eq!(predictor["deploymentStrategy"].is_null(), *mode == "Knative");
            if *mode == "Standard" {
                return;
            }
            (predictor, &predictor["annotations"])
        }
        _ => return,
    };
    // knative.dev/serving: `PodSpecMask` and `ContainerMask` in pkg/apis/serving/fieldmask.go, without flags.
    for field in [
        "affinity",
        "initContainers",
        "nodeSelector",
        "restartPolicy",
        "securityContext",
        "terminationGracePeriodSeconds",
        "tolerations",
        "topologySpreadConstraints",
    ] {
        assert!(spec[field].is_null(), "{field}");
    }
    // `ValidatePodSpec` in pkg/apis/serving/k8s_validation.go.
    let container = &spec["containers"][0];
    assert!(container["lifecycle"].is_null());
    assert_eq!(container["ports"].as_array().unwrap().len(), 1);
    assert_eq!(container["ports"][0]["name"], "http1");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], container["ports"][0]["containerPort"], "{probe}");
    }
    let mounts = container["volumeMounts"].as_array().unwrap();
    let volumes = spec["volumes"].as_array().unwrap();
    assert_eq!(mounts.len(), volumes.len());
    for (volume, mount) in volumes.iter().zip(mounts) {
        assert_eq!(volume["name"], mount["name"], "each volume is mounted");
        assert!(!volume["name"].as_str().unwrap().contains('.'), "{volume}");
        assert!(!["/", "/dev", "/dev/log"].contains(&mount["mountPath"].as_str().unwrap()));
        assert!(
            volume["emptyDir"].is_object() || volume["secret"].is_object() && mount["readOnly"] == true,
            "{volume}"
        );
    }
    // `ValidateAnnotations` in pkg/apis/autoscaling/annotation_validation.go.
    let seconds = |key: &str| {
        let text = annotations[format!("autoscaling.knative.dev/{key}")].as_str()?;
        text.strip_suffix('s').unwrap().parse::<u32>().ok()
    };
    assert!(seconds("window").is_none_or(|seconds| (6..=3600).contains(&seconds)));
    assert!(seconds("scale-to-zero-pod-retention-period").is_none_or(|seconds| seconds <= 3600));
}

/// Settings, a kind of what is written for them, and values in it by their pointers.
type Expected<'a> = (&'a str, &'a str, &'a [(String, Value)]);

#[test]
fn settings_come_to_be_what_each_platform_calls_them() {
    let deployer = Deployer::new();
    let read = |settings: &str, args: &[&str]| {
        deployer.home.write("way.yaml", settings);
        documents(&deployer.yaml(&[&["--settings", "way.yaml"], args].concat()))
    };
    let annotation = |of: &str, key: &str| format!("/{of}/annotations/{}", key.replace('/', "~1"));
    let knative = |key: &str| annotation("spec/template/metadata", &format!("autoscaling.knative.dev/{key}"));
    let kserve = |key: &str| annotation("spec/predictor", &format!("autoscaling.knative.dev/{key}"));
    let mode = annotation("metadata", "serving.kserve.io/deploymentMode");
    let cases: &[Expected<'_>] = &[
        (
            "kind: knative\nstrategy: TIMEOUT\ntimeout: 90.5",
            "Service",
            &[
                (knative("window"), json!("60s")),
                (knative("scale-to-zero-pod-retention-period"), json!("31s")),
                (knative("min-scale"), json!("0")),
                (knative("max-scale"), json!("1")),
                ("/spec/template/spec/containerConcurrency".to_owned(), Value::Null),
            ],
        ),
        (
            "kind: knative\nstrategy: IMMEDIATE\nreplicas: 3",
            "Service",
            &[
                (knative("window"), json!("6s")),
                (knative("scale-to-zero-pod-retention-period"), json!("0s")),
                (knative("max-scale"), json!("3")),
                ("/spec/template/spec/containerConcurrency".to_owned(), json!(1)),
            ],
        ),
        (
            "kind: knative\nautoscale: 2..4\nstart: 20m\nannotations: {autoscaling.knative.dev/max-scale: '5'}",
            "Service",
            &[
                (knative("window"), Value::Null),
                (knative("min-scale"), json!("2")),
                (knative("max-scale"), json!("5")),
                (annotation("spec/template/metadata", "serving.knative.dev/progress-deadline"), json!("1500s")),
            ],
        ),
        (
            "kind: keda\nreplicas: 3\nschedule: {start: 0 7 * * *, stop: 0 19 * * *}",
            "ScaledObject",
            &[
                ("/spec/triggers/0/type".to_owned(), json!("cron")),
                ("/spec/triggers/0/metadata/desiredReplicas".to_owned(), json!("3")),
                ("/spec/triggers/0/metadata/timezone".to_owned(), json!("UTC")),
                ("/spec/minReplicaCount".to_owned(), json!(0)),
                ("/spec/maxReplicaCount".to_owned(), json!(3)),
                ("/spec/cooldownPeriod".to_owned(), json!(300)),
            ],
        ),
        (
            "kind: keda\nautoscale: {min: 1, max: 2, metrics: [{memory: 80}]}",
            "ScaledObject",
            &[
                (
                    "/spec/triggers/0".to_owned(),
                    json!({"type": "memory", "metricType": "Utilization", "metadata": {"value": "80"}}),
                ),
                ("/spec/cooldownPeriod".to_owned(), Value::Null),
            ],
        ),
        (
            "kind: keda\nstrategy: TIMEOUT\ntimeout: 60\nstart: 5m\nexpose: {host: m.example.org}",
            "HTTPScaledObject",
            &[
                ("/spec/hosts".to_owned(), json!(["m.example.org"])),
                ("/spec/replicas".to_owned(), json!({"min": 0, "max": 1})),
                ("/spec/scaledownPeriod".to_owned(), json!(60)),
                ("/spec/timeouts/conditionWait".to_owned(), json!("300s")),
                ("/spec/pathPrefixes".to_owned(), Value::Null),
            ],
        ),
        // No number of pods beside KEDA's.
        ("kind: keda\nexpose: {host: m.example.org}", "Deployment", &[("/spec/replicas".to_owned(), Value::Null)]),
        (
            "kind: keda\nexpose: {host: m.example.org}",
            "Ingress",
            &[("/spec/rules/0/http/paths/0/backend/service/name".to_owned(), json!("tiny-keda"))],
        ),
        (
            "kind: keda\nnamespace: a\nexpose: {host: m.example.org, gateway: g, interceptor: b/c}",
            "HTTPRoute",
            &[("/spec/rules/0/backendRefs".to_owned(), json!([{"name": "c", "namespace": "b", "port": 8080}]))],
        ),
        (
            "kind: keda\nnamespace: a\nexpose: {host: m.example.org, gateway: g, interceptor: b/c}",
            "ReferenceGrant",
            &[
                ("/metadata/namespace".to_owned(), json!("b")),
                ("/metadata/name".to_owned(), json!("a-tiny")),
                ("/spec/to".to_owned(), json!([{"group": "", "kind": "Service", "name": "c"}])),
            ],
        ),
        (
            "expose: {host: m.example.org, path: /iris, gateway: edge/g}",
            "HTTPRoute",
            &[
                ("/spec/parentRefs".to_owned(), json!([{"name": "g", "namespace": "edge"}])),
                ("/spec/rules/0/matches/0/path/value".to_owned(), json!("/iris")),
                ("/spec/rules/0/filters/0/urlRewrite/path/replacePrefixMatch".to_owned(), json!("/")),
                ("/spec/rules/0/backendRefs".to_owned(), json!([{"name": "tiny", "port": 80}])),
            ],
        ),
        (
            "kind: kserve\nreplicas: 2",
            "InferenceService",
            &[
                (mode.clone(), json!("Standard")),
                ("/spec/predictor/minReplicas".to_owned(), json!(2)),
                ("/spec/predictor/annotations".to_owned(), Value::Null),
                ("/spec/predictor/deploymentStrategy/rollingUpdate/maxSurge".to_owned(), json!(1)),
            ],
        ),
        (
            "kind: kserve\nstrategy: TIMEOUT\ntimeout: 120",
            "InferenceService",
            &[
                (mode, json!("Knative")),
                ("/spec/predictor/minReplicas".to_owned(), json!(0)),
                (kserve("window"), json!("60s")),
                (kserve("scale-to-zero-pod-retention-period"), json!("60s")),
            ],
        ),
    ];
    for (settings, kind, values) in cases {
        let found = read(settings, &[]);
        let object = found.iter().find(|one| one["kind"] == *kind).unwrap_or_else(|| panic!("{settings}: no {kind}"));
        for (at, value) in *values {
            assert_eq!(object.pointer(at).unwrap_or(&Value::Null), value, "{settings}: {at}\n{object:#}");
        }
    }
    // Weights of their own: where the image would have them, or where KServe brings them.
    let volume = ["--models", "volume", "--kubernetes", "1.33", "--models-image", &deployer.image];
    let predictor = |settings: &str| read(settings, &volume)[1]["spec"]["predictor"].clone();
    let standard = predictor("kind: kserve");
    assert_eq!(standard["volumes"][1]["image"]["reference"], json!(deployer.image));
    assert_eq!(standard["containers"][0]["volumeMounts"][1]["mountPath"], "/models/tiny");
    assert!(!standard.to_string().contains("STORAGE_URI"));
    let upon_knative = predictor("kind: kserve\nstrategy: TIMEOUT");
    assert_eq!(upon_knative["volumes"].as_array().unwrap().len(), 1);
    let env = upon_knative["containers"][0]["env"].as_array().unwrap();
    let uri = json!({"name": "STORAGE_URI", "value": format!("oci+native://{}", deployer.image)});
    assert!(env.contains(&uri), "{env:?}");
    assert!(env.contains(&json!({"name": "EKIBEN_MODEL_DIR", "value": "/mnt/models/tiny"})), "{env:?}");
    let way = Way::new(&deployer, "kind: kserve");
    ran(&mut way.command(&[&["--apply"], &volume[..]].concat())).ok();
}

#[test]
fn what_a_platform_starts_is_stopped_in_its_own_way() {
    let deployer = Deployer::new();
    let paused = "autoscaling.keda.sh/paused-replicas";
    for (settings, name, key, value) in [
        ("kind: keda\nexpose: {host: m.example.org}", "httpscaledobject/tiny", paused, "0"),
        ("kind: keda\nschedule: {start: 0 7 * * *, stop: 0 19 * * *}", "scaledobject/tiny", paused, "0"),
        ("kind: kserve", "inferenceservice/tiny", "serving.kserve.io/stop", "true"),
    ] {
        let way = Way::new(&deployer, settings);
        let annotation = || way.namespace.get(name)["metadata"]["annotations"][key].clone();
        ran(&mut way.command(&["--apply"])).ok();
        assert_eq!(annotation(), Value::Null, "{settings}");
        ran(&mut way.command(&["--stop"])).ok();
        assert_eq!(annotation(), value, "{settings}");
        ran(&mut way.command(&["--start"])).ok();
        assert_eq!(annotation(), Value::Null, "{settings}");
    }
    let way = Way::new(&deployer, "kind: knative");
    ran(&mut way.command(&["--stop"])).ends(2).says("the next request starts it again");
}

#[test]
fn what_a_platform_does_not_take_is_said() {
    let deployer = Deployer::new();
    let long = "a".repeat(55);
    for (settings, said) in [
        ("kind: knative\nnodes: {a: b}", "Knative takes no labels of nodes"),
        ("kind: knative\ntolerations: [{operator: Exists}]", "Knative takes no tolerations"),
        ("kind: knative\nvolumes: [{claim: a, path: /a}]", "Knative takes no claims"),
        ("kind: knative\nmodels: volume", "Knative mounts no images"),
        ("kind: knative\nmodels: pvc:a", "Knative takes neither"),
        ("kind: knative\nmodels: node\nnodes: {a: b}", "Knative takes neither"),
        ("kind: knative\nnetwork: closed", "only written for a service"),
        ("kind: knative\nstrategy: TIMEOUT\ntimeout: 3601", "for an hour at most"),
        ("kind: knative\nautoscale: {min: 0, max: 2, metrics: [{cpu: 70}]}", "Knative scales by requests"),
        ("kind: knative\nenv: {PORT: '1'}", "Knative sets `PORT` itself"),
        ("kind: knative\nsecrets: [{name: a, variables: {K_SERVICE: a}}]", "Knative sets `K_SERVICE` itself"),
        ("kind: knative\nexpose: {host: a.example.org}", "its own way from outside"),
        ("kind: knative\nstrategy: ALWAYS_ON\nautoscale: 0..4", "has at least one pod"),
        ("kind: knative\nstrategy: TIMEOUT\nautoscale: 1..4", "has no pods then"),
        ("kind: knative\nreplicas: 0", "there would never be a pod"),
        ("kind: knative\ntriggers: [{type: a, metadata: {}}]", "only KEDA has triggers"),
        ("kind: keda", "KEDA has nothing to scale by"),
        ("kind: keda\nautoscale: {min: 0, max: 2, metrics: [{cpu: 70}]}", "KEDA does not go to no pods"),
        ("kind: keda\ntriggers: [{type: cpu, metadata: {value: '70'}}]", "KEDA does not go to no pods"),
        ("kind: keda\ntriggers: [{type: a, metadata: {threshold: 1}}]", "KEDA takes only texts here, not 1"),
        ("kind: keda\ntriggers: [{metadata: {}}]", "has a `type`"),
        ("kind: keda\ntriggers: [{type: a}]", "has `metadata`"),
        ("kind: keda\ntriggers: [{type: a, metadata: {}, query: b}]", "has no `query`"),
        (
            "kind: keda\ntriggers: [{type: a, name: a, metadata: {}}, {type: b, name: a, metadata: {}}]",
            "are called `a`",
        ),
        ("kind: keda\nautoscale: {min: 1, max: 2, metrics: [{type: Pods}]}", "a HorizontalPodAutoscaler"),
        ("kind: keda\nstrategy: IMMEDIATE\nexpose: {host: a.b}", "a container for each request"),
        ("kind: keda\nstrategy: ALWAYS_ON\nschedule: {start: 0 7 * * *, stop: 0 9 * * *}", "is not always on"),
        ("kind: keda\nschedule: {start: 0 7 * * *, stop: 0 7 * * *}", "stopped when it starts"),
        ("kind: keda\nschedule: {start: 0 7 * * 7, stop: 0 9 * * *}", "`7` means nothing"),
        ("kind: keda\nschedule: {start: 0 7 L * *, stop: 0 9 * * *}", "`L` means nothing"),
        ("kind: keda\nschedule: {start: 0 0 7 * * *, stop: 0 9 * * *}", "is no time of cron's"),
        ("kind: keda\nschedule: {start: 0 7 * * *, stop: 0 9 * * *, zone: over there}", "is no time zone"),
        ("kind: keda\nexpose: {host: a.b, path: /x, gateway: g}\nnamespace: n", "would not see the path"),
        ("kind: keda\nexpose: {host: a.b, gateway: g}", "needs to know its own"),
        ("kind: keda\nexpose: {host: a.b, interceptor: c}", "NAMESPACE/SERVICE"),
        ("expose: {host: a.b, interceptor: c/d}", "no interceptor here"),
        ("expose: {host: a..b}", "is no host's name"),
        ("expose: {host: '*a.b'}", "is no host's name"),
        ("expose: {host: 10.0.0.1}", "it is an address"),
        ("expose: {host: a.b, path: /x/../y, gateway: g}", "mean other paths"),
        ("kind: kserve\nstrategy: TIMEOUT\nnodes: {a: b}", "Knative takes no labels of nodes"),
        ("kind: kserve\nstrategy: TIMEOUT\nmodels: pvc:a", "Knative takes neither"),
        ("kind: kserve\nstrategy: TIMEOUT\nmodels: s3://a/b", "Knative takes neither"),
        ("kind: kserve\nautoscale: {min: 0, max: 2, metrics: [{cpu: 1}]}", "Knative scales by requests"),
        ("kind: kserve\nmodels: volume", "mounted from Kubernetes 1.33 on"),
        ("kind: kserve\nautoscale: {min: 1, max: 2, metrics: [{type: Pods}]}", "a HorizontalPodAutoscaler"),
        ("kind: kserve\nenv: {PYTHONPATH: a}", "does not let `PYTHONPATH`"),
        ("kind: kserve\nexpose: {host: a.example.org}", "its own way from outside"),
        ("models: pvc:a\nstorage: {size: 1Gi, shared: a}\nnamespace: n", "NAMESPACE/CLAIM"),
        ("models: pvc:a\nstorage: {size: 1Gi, shared: n/a}\nnamespace: n", "is of this namespace"),
        ("models: pvc:a\nstorage: {size: 1Gi, shared: m/a}", "needs to know its own"),
        ("models: pvc:a\nstorage: {size: 1Gi, shared: m/a, share: [b]}\nnamespace: n", "cannot be shared on"),
        ("models: pvc:a\nstorage: {size: 1Gi, bucket: a, class: b}", "a volume of no StorageClass"),
        ("models: pvc:a\nstorage: {size: 1Gi, share: [A]}", "cannot be the name of a namespace"),
        (&format!("kind: keda\nname: {long}\nexpose: {{host: a.b}}"), "KEDA's autoscaler adds 9"),
        (&format!("kind: kserve\nname: {long}"), "KServe adds 10"),
    ] {
        deployer.home.write("way.yaml", settings);
        let refused = deployer.home.run(["deploy", &deployer.image, "--settings", "way.yaml"]);
        assert_eq!(refused.code, Some(3), "{settings}: {}{}", refused.out, refused.err);
        assert!(refused.err.contains(said), "{settings} does not say `{said}`:\n{}", refused.err);
    }
}

#[test]
fn the_definitions_refuse_what_they_do_not_know() {
    let namespace = cluster().namespace("strict");
    let head = |api: &str, kind: &str| format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: a}}\n");
    for (api, kind, spec, wrong) in [
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "{hostnames: [a.b]}", "{hostnames: [A]}"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "{hostnames: [a.b]}", "{hostname: a.b}"),
        (
            "keda.sh/v1alpha1",
            "ScaledObject",
            "{scaleTargetRef: {name: a}, triggers: [{type: a, metadata: {}}]}",
            "{scaleTargetRef: {name: a}, triggers: []}",
        ),
        (
            "http.keda.sh/v1alpha1",
            "HTTPScaledObject",
            "{scaleTargetRef: {service: a}}",
            "{scaleTargetRef: {service: a}, host: a}",
        ),
        (
            "serving.knative.dev/v1",
            "Service",
            "{template: {spec: {containers: [{image: a}]}}}",
            "{template: {spec: {containers: [{image: a}], nodeSelector: {a: b}}}}",
        ),
        (
            "serving.kserve.io/v1beta1",
            "InferenceService",
            "{predictor: {minReplicas: 0}}",
            "{predictor: {minimalReplicas: 0}}",
        ),
        ("trident.netapp.io/v1", "TridentVolumeReference", "{pvcName: a, pvcNamespace: b}", "{pvcName: a}"),
    ] {
        namespace.apply(&format!("{}spec: {spec}\n", head(api, kind)));
        let refused = namespace.given(&["apply", "--server-side"], &format!("{}spec: {wrong}\n", head(api, kind)));
        assert_eq!(refused.code, Some(1), "{kind} takes {wrong}");
    }
}
