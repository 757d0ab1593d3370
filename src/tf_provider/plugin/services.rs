// SPDX-License-Identifier: MPL-2.0

//! The services that go-plugin expects beside the provider: controller, stdio, broker, and grpc's health.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::Lifecycle;
use crate::tf_provider::proto::plugin::grpc_broker_server::{GrpcBroker, GrpcBrokerServer};
use crate::tf_provider::proto::plugin::grpc_controller_server::{GrpcController, GrpcControllerServer};
use crate::tf_provider::proto::plugin::grpc_stdio_server::{GrpcStdio, GrpcStdioServer};
use crate::tf_provider::proto::plugin::{ConnInfo, Empty, StdioData};

/// The name under which go-plugin asks for the health of the whole plugin.
const HEALTH_SERVICE: &str = "plugin";

/// `routes` with the services of every plugin.
pub(super) async fn with_plugin_services(routes: Routes, lifecycle: &Lifecycle) -> Routes {
    let services = PluginServices(lifecycle.clone());
    let health = HealthReporter::new();
    health.set_service_status(HEALTH_SERVICE, ServingStatus::Serving).await;
    routes
        .add_service(GrpcControllerServer::new(services.clone()))
        .add_service(GrpcStdioServer::new(services.clone()))
        .add_service(GrpcBrokerServer::new(services))
        .add_service(HealthServer::new(HealthService::from_health_reporter(health)))
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[derive(Clone)]
struct PluginServices(Lifecycle);

#[tonic::async_trait]
impl GrpcController for PluginServices {
    /// Ends the process; calls in flight, including this one, are still answered.
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        tracing::debug!("told to shut down");
        self.0.shut_down();
        Ok(Response::new(Empty {}))
    }
}

#[tonic::async_trait]
impl GrpcStdio for PluginServices {
    type StreamStdioStream = Messages<StdioData>;

    /// Sends nothing: the parent reads stderr itself, and would log a warning about output from here.
    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        let shutdown = self.0.shutdown_token().cancelled_owned();
        Ok(Response::new(Box::pin(stream::pending().take_until(shutdown))))
    }
}

#[tonic::async_trait]
impl GrpcBroker for PluginServices {
    type StartStreamStream = Messages<ConnInfo>;

    /// Stays open and silent: providers need no further connections.
    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let shutdown = self.0.shutdown_token().cancelled_owned();
        // Reading goes on so that the parent's end stays open.
        let ignored = request.into_inner().filter_map(|_| async { None });
        Ok(Response::new(Box::pin(ignored.take_until(shutdown))))
    }
}
