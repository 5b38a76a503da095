/// <reference types="node" preserve="true" />
/** The public names of flashq. */
import { setDefaultConnectionResolver } from '../client/default-connection.js';
import { resolveConnection } from './default.js';

setDefaultConnectionResolver(resolveConnection);

export { CircuitBreaker, type CircuitBreakerOptions, type CircuitState } from '../client/circuit-breaker.js';
export type {
  BreakerStatus,
  CronInfo,
  CronTick,
  DependencyRecord,
  DlqConfig,
  DlqReason,
  ErrorRecord,
  Explanation,
  GroupsConfig,
  JobCounts,
  JobState,
  JobStateOrUnknown,
  QueueConfig,
  QueueEvent,
  SettledResult,
} from '../client/connection.js';
export type { CronJobOptions, CronOptions, DateInput, MissedPolicy, OverlapPolicy } from '../client/cron.js';
export {
  AuthenticationError,
  BulkError,
  CircuitOpenError,
  ConnectionError,
  DataDirLockedError,
  DelayedError,
  DuplicateJobError,
  EngineClosedError,
  EngineFullError,
  FlashQError,
  JobActiveError,
  JobCancelledError,
  JobFailedError,
  JobNotFoundError,
  JobRemovedError,
  LeaseLostError,
  PermissionError,
  ProtocolError,
  RateLimitError,
  SagaFailedError,
  StoreError,
  type StoreFault,
  TimeoutError,
  UnknownDependencyError,
  UnrecoverableError,
  ValidationError,
  WaitingForJobsError,
  WaitTimeoutError,
} from '../client/errors.js';
export { type CompensationError, executeSaga, type SimpleStep } from '../client/execute-saga.js';
export {
  type FlowJob,
  type FlowNode,
  FlowProducer,
  type FlowProducerOptions,
  type Graph,
  type GraphNode,
  type JobNode,
} from '../client/flow-producer.js';
export { Job, type JobJson, type StreamOptions } from '../client/job.js';
export type { JobFilter } from '../client/job-filter.js';
export {
  type AddOptions,
  type DeduplicationOptions,
  JOB_DEFAULTS,
  type JobOptions,
  type JobReference,
} from '../client/options.js';
export {
  type BulkAnswer,
  type BulkItem,
  type DlqSelection,
  type GetJobsOptions,
  Queue,
  type QueueOptions,
  type WaitOptions,
} from '../client/queue.js';
export { QueueEvents } from '../client/queue-events.js';
export type { BatchHandler, Handler, HandlerContext } from '../client/runner.js';
export { defineSaga, type Saga, type SagaHandle, type SagaStatus, type StepStatus } from '../client/saga.js';
export type {
  CompensationContext,
  CompensationData,
  FunctionStep,
  JobStep,
  SagaOptions,
  SagaStep,
  StepContext,
} from '../client/saga-definition.js';
export type { Compensation, SagaState } from '../client/saga-record.js';
export type { TypedHandlers, TypedQueue } from '../client/typed.js';
export { Worker, type WorkerEvents } from '../client/worker.js';
export type { BatchOptions, CloseOptions, WorkerBreakerOptions, WorkerOptions } from '../client/worker-options.js';
export type { AttachedEngine } from './attached-engine.js';
export { Engine, type EngineStats } from './engine.js';
export type { Durability, EngineOptions } from './options.js';
export { type DoctorOptions, type DoctorReport, doctor } from './store/doctor.js';
export type { LogSession, LogStore } from './store/log-store.js';
export type { EngineHandle } from './threads/wire.js';
export { type Clock, SystemClock, TestClock } from './upkeep/clock.js';
