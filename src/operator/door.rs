//! The door of a model that has no pods: while it is idle, its Service leads here, and who knocks waits until it has started.
//!
//! Each model has a port of its own, so that bytes pass through as they are. It is made known in an EndpointSlice of the model's
//! Service, beside those that Kubernetes itself keeps.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::core::DynamicObject;
use kube::runtime::reflector::ObjectRef;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::cluster::{Knocks, MANAGER, SLICES_OF};

/// Connections that may wait for a model.
const MOST: usize = 256;

/// For so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// The doors of all idle models.
pub struct Doors {
    /// Where pods of the cluster reach this process.
    address: IpAddr,
    knocks: Knocks,
    doors: Mutex<HashMap<String, Door>>,
}

struct Door {
    port: u16,
    has_knocked: Arc<AtomicBool>,
    /// Where the model answers, once it does.
    way: watch::Sender<Option<SocketAddr>>,
    keeper: JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        // Whoever has come in goes on; nobody else comes.
        self.keeper.abort();
    }
}

impl Doors {
    /// Doors at `address`; who knocks is told to `knocks`.
    pub fn new(address: IpAddr, knocks: Knocks) -> Self {
        Self { address, knocks, doors: Mutex::default() }
    }

    /// Opens the door of the resource `uid`, which is `of`; gives its port.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn open(&self, uid: &str, of: ObjectRef<DynamicObject>) -> io::Result<u16> {
        if let Some(door) = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get(uid) {
            return Ok(door.port);
        }
        let listener = TcpListener::bind((self.address, 0)).await?;
        let port = listener.local_addr()?.port();
        let (way, led) = watch::channel(None);
        let has_knocked = Arc::new(AtomicBool::new(false));
        let keeper = tokio::spawn(keep(listener, has_knocked.clone(), led, self.knocks.clone(), of));
        let door = Door { port, has_knocked, way, keeper };
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), door);
        Ok(port)
    }

    /// Whether somebody waits at it.
    pub fn has_knocked(&self, uid: &str) -> bool {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.get(uid).is_some_and(|door| door.has_knocked.load(Ordering::Relaxed))
    }

    /// Sends those who wait to a pod, and closes the door behind them.
    pub fn lead(&self, uid: &str, pod: SocketAddr) {
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        if let Some(door) = door {
            door.way.send_replace(Some(pod));
        }
    }

    /// Closes it. Who waits is sent away.
    pub fn close(&self, uid: &str) {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// The slice that makes a door known.
    pub fn slice(&self, service: &str, port: u16) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": slice_name(service),
                "labels": {"kubernetes.io/service-name": service, SLICES_OF: MANAGER},
            },
            "addressType": if self.address.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{"addresses": [self.address.to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        })
    }
}

/// What the slice of a door is called.
pub fn slice_name(service: &str) -> String {
    format!("{service}-door")
}

async fn keep(
    listener: TcpListener,
    has_knocked: Arc<AtomicBool>,
    way: watch::Receiver<Option<SocketAddr>>,
    knocks: Knocks,
    of: ObjectRef<DynamicObject>,
) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((visitor, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if !has_knocked.swap(true, Ordering::Relaxed) {
            let _ = knocks.send(of.clone());
        }
        let way = way.clone();
        tokio::spawn(async move {
            // Who gives up is gone; who is led is the model's.
            let _ = led(visitor, way).await;
            drop(place);
        });
    }
}

/// Waits for the way, and goes it.
async fn led(mut visitor: TcpStream, mut way: watch::Receiver<Option<SocketAddr>>) -> io::Result<()> {
    let found = tokio::time::timeout(PATIENCE, way.wait_for(Option::is_some)).await;
    let pod = *found.map_err(io::Error::other)?.map_err(io::Error::other)?;
    let Some(pod) = pod else { return Ok(()) };
    let mut model = TcpStream::connect(pod).await?;
    tokio::io::copy_bidirectional(&mut visitor, &mut model).await?;
    Ok(())
}
