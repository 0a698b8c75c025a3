//! Other people's servers on the loopback interface, ended with what holds them.

use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{Home, ask, free_port, python_programs, ran, tool, wait_until};

/// A server, and all that it started.
pub struct Server {
    process: Child,
    pub port: u16,
}

impl Server {
    /// Starts `command`, which is going to listen on `port`.
    pub fn start(command: Command, port: u16) -> Self {
        Self::start_at(command, "127.0.0.1", port)
    }

    /// The same at an address of this machine that is not seen by others either.
    pub fn start_at(mut command: Command, address: &str, port: u16) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let process = command.spawn().unwrap();
        wait_until("a server", || TcpStream::connect((address, port)).is_ok());
        Self { process, port }
    }

    /// Serves a folder as it is.
    pub fn of_files(home: &Home, folder: &str) -> Self {
        let port = free_port();
        let mut command = tool("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory", &home.path(folder)]);
        command.arg(port.to_string());
        Self::start(command, port)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

/// Python with MLflow, what it logs here, and a server of objects.
pub fn mlflow() -> PathBuf {
    // What other tests put into their images as well.
    let pinned = ["scikit-learn==1.5.2", "numpy==1.26.4", "scipy==1.14.1", "joblib==1.4.2", "threadpoolctl==3.5.0"];
    python_programs("mlflow", &[&["mlflow==3.17.2", "moto[server]==5.1.22"], &pinned[..]].concat())
}

/// An MLflow server whose artifacts lie in a bucket `models` of a server of objects: it hands them on itself below `proxied`,
/// and clients go to those of the experiment `direct` themselves.
pub struct Mlflow {
    pub server: Server,
    pub objects: Server,
    python: PathBuf,
}

impl Mlflow {
    pub fn start(home: &Home) -> Self {
        let mlflow = mlflow();
        let port = free_port();
        let mut command = Command::new(mlflow.with_file_name("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let objects = Server::start(command, port);
        let python = mlflow.with_file_name("python");
        let port = free_port();
        let mut command = Command::new(&mlflow);
        command.args(["server", "--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "1"]);
        command.args(["--backend-store-uri", &format!("sqlite:///{}", home.path("mlflow.db"))]);
        command.args(["--artifacts-destination", "s3://models/proxied"]).current_dir(home.folder());
        Self::known(&mut command, &objects);
        let make = "import boto3, sys; boto3.client('s3', endpoint_url=sys.argv[1]).create_bucket(Bucket='models')";
        let mut bucket = Command::new(&python);
        ran(Self::known(bucket.args(["-c", make, &objects.url("")]), &objects)).ok();
        let server = Server::start(command, port);
        wait_until("MLflow", || ask(&server.url(""), "GET", "/health", "").0 == 200);
        Self { server, objects, python }
    }

    fn known<'a>(command: &'a mut Command, objects: &Server) -> &'a mut Command {
        command
            .env("AWS_ACCESS_KEY_ID", "key")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("MLFLOW_S3_ENDPOINT_URL", objects.url(""))
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
    }

    /// A command that knows the servers as MLflow's own client does.
    pub fn knows<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        Self::known(command, &self.objects).env("MLFLOW_TRACKING_URI", self.server.url(""))
    }

    /// Runs a script in Python, which has the client as `client`; gives what it prints.
    pub fn script(&self, script: &str) -> String {
        let begin = "import logging, mlflow, sys\nlogging.disable()\nclient = mlflow.MlflowClient()\n\
                     def log(name, model, **more):\n    \
                     with mlflow.start_run():\n        \
                     return mlflow.sklearn.log_model(model, name='model', registered_model_name=name, **more)\n";
        let mut command = Command::new(&self.python);
        let said = ran(self.knows(command.args(["-c", &format!("{begin}{script}")]))).ok().out;
        said.lines().filter(|line| !line.contains("at: http")).map(|line| format!("{line}\n")).collect()
    }
}

/// A broker of messages: Debian's RabbitMQ, with all that it keeps in the test's folder.
pub struct RabbitMq {
    pub port: u16,
    broker: Option<Server>,
    folder: PathBuf,
    mapper: Server,
}

impl RabbitMq {
    /// The one in `sbin` would change users.
    const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

    pub fn start(home: &Home) -> Self {
        let port = free_port();
        let folder = home.write("rabbitmq/plugins", "[].\n").parent().unwrap().to_owned();
        home.write("rabbitmq/rabbitmq.conf", format!("listeners.tcp.1 = 127.0.0.1:{port}\n"));
        let mapper_port = free_port();
        let mut command = tool("epmd");
        command.args(["-address", "127.0.0.1", "-port", &mapper_port.to_string()]);
        let mapper = Server::start(command, mapper_port);
        let mut rabbit = Self { port, broker: None, folder, mapper };
        rabbit.restart();
        rabbit
    }

    /// Kills it, and starts it with what it had kept.
    pub fn restart(&mut self) {
        self.broker = None;
        let mut command = Command::new(Self::PROGRAM);
        let name = format!("ekiben{}@localhost", self.port);
        let place = |name: &str| self.folder.join(name);
        command
            .env("HOME", &self.folder)
            .env("RABBITMQ_NODENAME", name)
            .env("RABBITMQ_MNESIA_BASE", place("data"))
            .env("RABBITMQ_LOG_BASE", place("log"))
            .env("RABBITMQ_CONFIG_FILE", place("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", place("plugins"))
            .env("RABBITMQ_PID_FILE", place("pid"))
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.mapper.port.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
        self.broker = Some(Server::start(command, self.port));
    }

    /// Where it is, and who may come there.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/", self.port)
    }
}
