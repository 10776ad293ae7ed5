import { type TSchema, Type } from 'typebox'
import { ExperimentName } from './common.ts'
import { CompareEvent, CompareRequest, CompareResponse } from './compare.ts'
import { ValidateRequest, ValidateResponse } from './dataset.ts'
import {
  EvaluateRequest,
  Evaluation,
  EvaluationDeleted,
  EvaluationId,
  EvaluationStarted,
  EvaluationsQuery,
  EvaluationsResponse,
} from './evaluate.ts'
import { JobEvent } from './event.ts'
import { GenerateEvent, GenerateRequest, GenerateResponse, ProvidersResponse } from './generate.ts'
import { HealthResponse, ReadyResponse } from './health.ts'
import {
  CommandResponse,
  DeleteResponse,
  ListResponse,
  PriorityRequest,
  PriorityResponse,
  StatusResponse,
} from './job.ts'
import { ModelsResponse } from './model.ts'
import {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  Completion,
  CompletionRequest,
  OpenAIError,
  OpenAIModel,
  OpenAIModels,
} from './openai.ts'
import { CloneRequest, EstimateRequest, EstimateResponse, StartRequest, StartResponse } from './start.ts'
import { PreviewRequest, PreviewResponse } from './supervision.ts'
import {
  CleanRequest,
  CleanResponse,
  Dataset,
  DatasetId,
  DatasetsQuery,
  DatasetsResponse,
  DeletedDataset,
  RowsQuery,
  RowsResponse,
  SplitRequest,
  SplitResponse,
  UploadQuery,
  UploadResponse,
} from './uploads.ts'

/** What a key may do. `admin` includes the others; `train` and `generate` include `read`. */
export const SCOPES = ['read', 'train', 'generate', 'admin'] as const
export type Scope = (typeof SCOPES)[number]

export interface Route {
  method: 'GET' | 'POST' | 'DELETE'
  path: string
  summary: string
  tag: 'service' | 'training' | 'datasets' | 'generation' | 'models' | 'openai'
  /** none: open; optional: works without a key, a presented key must be valid; required. */
  auth: 'none' | 'optional' | 'required'
  scope: Scope
  params?: TSchema
  querystring?: TSchema
  body?: TSchema
  /** Of a good answer; left out, 200. */
  status?: 202
  /** Schema of the good answer; `sse` answers a text/event-stream of `stream`. */
  response?: TSchema
  stream?: TSchema
  /** Of a route that answers with a text/event-stream of these instead when it is asked to. */
  events?: TSchema
  /** With an Idempotency-Key, the same request again does nothing more and gets the same answer, for 24 h. */
  idempotent?: boolean
  /** Content type of a 200 answer that is neither. */
  text?: string
  /** The body is a file: multipart/form-data with it as `file` and the query's fields beside it, or its bytes alone. */
  upload?: boolean
  /** Content type of a 200 answer that is a file. */
  file?: string
  /** Schema of its error answers, where they are not of the usual shape. */
  error?: TSchema
}

const experiment = Type.Object({ name: ExperimentName })
const dataset = Type.Object({ id: DatasetId })
const evaluation = Type.Object({ id: EvaluationId })

/** Every route of the API, once. Server, OpenAPI document, SDK and the auth matrix read this table. */
export const ROUTES = {
  health: {
    method: 'GET',
    path: '/health',
    summary: 'API health and available features',
    tag: 'service',
    auth: 'none',
    scope: 'read',
    response: HealthResponse,
  },
  ready: {
    method: 'GET',
    path: '/ready',
    summary: 'Whether this server can work: 200 or 503, for load balancers',
    tag: 'service',
    auth: 'none',
    scope: 'read',
    response: ReadyResponse,
  },
  metrics: {
    method: 'GET',
    path: '/metrics',
    summary: 'Metrics in the text format of Prometheus',
    tag: 'service',
    auth: 'optional',
    scope: 'read',
    text: 'text/plain; version=0.0.4; charset=utf-8',
  },
  trainStart: {
    method: 'POST',
    path: '/train/start',
    summary: 'Start a fine-tuning job',
    tag: 'training',
    auth: 'required',
    scope: 'train',
    body: StartRequest,
    response: StartResponse,
    idempotent: true,
  },
  trainEstimate: {
    method: 'POST',
    path: '/train/estimate',
    summary: 'Dry run: exact token counts, measured speed and memory, whether it fits; starts nothing',
    tag: 'training',
    auth: 'required',
    scope: 'train',
    body: EstimateRequest,
    response: EstimateResponse,
  },
  trainStatus: {
    method: 'GET',
    path: '/train/:name/status',
    summary: 'Progress and metrics of a job',
    tag: 'training',
    auth: 'required',
    scope: 'read',
    params: experiment,
    response: StatusResponse,
  },
  trainList: {
    method: 'GET',
    path: '/train',
    summary: 'All training jobs, newest first',
    tag: 'training',
    auth: 'required',
    scope: 'read',
    response: ListResponse,
  },
  trainStop: {
    method: 'POST',
    path: '/train/:name/stop',
    summary: 'Stop a job; what it learned is saved',
    tag: 'training',
    auth: 'required',
    scope: 'train',
    params: experiment,
    response: CommandResponse,
  },
  trainPause: {
    method: 'POST',
    path: '/train/:name/pause',
    summary: 'Checkpoint a job and free its memory',
    tag: 'training',
    auth: 'required',
    scope: 'train',
    params: experiment,
    response: CommandResponse,
  },
  trainResume: {
    method: 'POST',
    path: '/train/:name/resume',
    summary: 'Continue a paused, stopped or failed job from its last checkpoint',
    tag: 'training',
    auth: 'required',
    scope: 'train',
    params: experiment,
    response: CommandResponse,
  },
  trainPriority: {
    method: 'POST',
    path: '/train/:name/priority',
    summary: 'Move a queued job within the queue',
    tag: 'training',
    auth: 'required',
    scope: 'train',
    params: experiment,
    body: PriorityRequest,
    response: PriorityResponse,
  },
  trainClone: {
    method: 'POST',
    path: '/train/:name/clone',
    summary: 'Start another job with the request of this one and some changes',
    tag: 'training',
    auth: 'required',
    scope: 'train',
    params: experiment,
    body: CloneRequest,
    response: StartResponse,
    idempotent: true,
  },
  trainDelete: {
    method: 'DELETE',
    path: '/train/:name',
    summary: 'Delete an ended experiment: its history, logs, and the files that it made in its output folder',
    tag: 'training',
    auth: 'required',
    scope: 'train',
    params: experiment,
    response: DeleteResponse,
  },
  trainEvents: {
    method: 'GET',
    path: '/train/:name/events',
    summary: "A job's events as server-sent events; Last-Event-ID (or ?after=) replays from there",
    tag: 'training',
    auth: 'required',
    scope: 'read',
    params: experiment,
    querystring: Type.Object({ after: Type.Optional(Type.Integer({ minimum: 0 })) }, { additionalProperties: false }),
    stream: JobEvent,
  },
  datasetsValidate: {
    method: 'POST',
    path: '/datasets/validate',
    summary: 'Check a data set and detect its format; with a model named, tell what training would make of its rows',
    tag: 'datasets',
    auth: 'optional',
    scope: 'read',
    body: ValidateRequest,
    response: ValidateResponse,
  },
  datasetsPreview: {
    method: 'POST',
    path: '/datasets/preview',
    summary: 'The mask of single rows: every token with what becomes of it in training',
    tag: 'datasets',
    auth: 'required',
    scope: 'read',
    body: PreviewRequest,
    response: PreviewResponse,
  },
  datasetsUpload: {
    method: 'POST',
    path: '/datasets',
    summary: 'Upload a data set; an invalid one is kept with its report, to be looked at and cleaned',
    tag: 'datasets',
    auth: 'required',
    scope: 'train',
    querystring: UploadQuery,
    upload: true,
    response: UploadResponse,
  },
  datasetsList: {
    method: 'GET',
    path: '/datasets',
    summary: 'Uploaded data sets, newest first',
    tag: 'datasets',
    auth: 'required',
    scope: 'read',
    querystring: DatasetsQuery,
    response: DatasetsResponse,
  },
  datasetsGet: {
    method: 'GET',
    path: '/datasets/:id',
    summary: 'A data set with its report and the experiments that used it',
    tag: 'datasets',
    auth: 'required',
    scope: 'read',
    params: dataset,
    response: Dataset,
  },
  datasetsRows: {
    method: 'GET',
    path: '/datasets/:id/rows',
    summary: 'Rows of a data set: as they are, as they are trained on, and what is wrong with them',
    tag: 'datasets',
    auth: 'required',
    scope: 'read',
    params: dataset,
    querystring: RowsQuery,
    response: RowsResponse,
  },
  datasetsContent: {
    method: 'GET',
    path: '/datasets/:id/content',
    summary: 'The file as it was uploaded',
    tag: 'datasets',
    auth: 'required',
    scope: 'read',
    params: dataset,
    file: 'application/octet-stream',
  },
  datasetsDelete: {
    method: 'DELETE',
    path: '/datasets/:id',
    summary: 'Delete a data set that no unended experiment uses; ended ones keep their copies',
    tag: 'datasets',
    auth: 'required',
    scope: 'train',
    params: dataset,
    response: DeletedDataset,
  },
  datasetsSplit: {
    method: 'POST',
    path: '/datasets/:id/split',
    summary: 'Two data sets of one, for training and validation, by a hash of what each row says',
    tag: 'datasets',
    auth: 'required',
    scope: 'train',
    params: dataset,
    body: SplitRequest,
    response: SplitResponse,
  },
  datasetsClean: {
    method: 'POST',
    path: '/datasets/:id/clean',
    summary: 'A new data set with named repairs, and what each of them did',
    tag: 'datasets',
    auth: 'required',
    scope: 'train',
    params: dataset,
    body: CleanRequest,
    response: CleanResponse,
  },
  models: {
    method: 'GET',
    path: '/models',
    summary: 'Models that are here: bundled, local, hub cache, fine-tuned',
    tag: 'models',
    auth: 'optional',
    scope: 'read',
    response: ModelsResponse,
  },
  generate: {
    method: 'POST',
    path: '/generate',
    summary: 'Generate text from a base, fine-tuned or hosted model',
    tag: 'generation',
    auth: 'optional',
    scope: 'generate',
    body: GenerateRequest,
    response: GenerateResponse,
    events: GenerateEvent,
  },
  compare: {
    method: 'POST',
    path: '/compare',
    summary: 'Ask several models the same, side by side, with times, tokens and, against references, scores',
    tag: 'generation',
    auth: 'optional',
    scope: 'generate',
    body: CompareRequest,
    response: CompareResponse,
    events: CompareEvent,
  },
  evaluateStart: {
    method: 'POST',
    path: '/evaluate',
    summary: 'Evaluate models over held-out rows: loss, perplexity, token accuracy and, on request, scored answers',
    tag: 'generation',
    auth: 'required',
    scope: 'train',
    body: EvaluateRequest,
    status: 202,
    response: EvaluationStarted,
  },
  evaluateList: {
    method: 'GET',
    path: '/evaluate',
    summary: 'All evaluations, newest first',
    tag: 'generation',
    auth: 'required',
    scope: 'read',
    querystring: EvaluationsQuery,
    response: EvaluationsResponse,
  },
  evaluateGet: {
    method: 'GET',
    path: '/evaluate/:id',
    summary: 'How far an evaluation is, its results, and rows worth looking at',
    tag: 'generation',
    auth: 'required',
    scope: 'read',
    params: evaluation,
    response: Evaluation,
  },
  evaluateCancel: {
    method: 'POST',
    path: '/evaluate/:id/cancel',
    summary: 'Cancel an evaluation; one that has ended stays as it is',
    tag: 'generation',
    auth: 'required',
    scope: 'train',
    params: evaluation,
    response: EvaluationStarted,
  },
  evaluateDelete: {
    method: 'DELETE',
    path: '/evaluate/:id',
    summary: 'Delete an evaluation that has ended',
    tag: 'generation',
    auth: 'required',
    scope: 'train',
    params: evaluation,
    response: EvaluationDeleted,
  },
  providers: {
    method: 'GET',
    path: '/providers',
    summary: 'LLM providers and whether they can be used',
    tag: 'generation',
    auth: 'none',
    scope: 'read',
    response: ProvidersResponse,
  },
  openaiChat: {
    method: 'POST',
    path: '/v1/chat/completions',
    summary: "OpenAI's chat completions",
    tag: 'openai',
    auth: 'optional',
    scope: 'generate',
    body: ChatCompletionRequest,
    response: ChatCompletion,
    events: ChatCompletionChunk,
    error: OpenAIError,
  },
  openaiCompletions: {
    method: 'POST',
    path: '/v1/completions',
    summary: "OpenAI's completions of plain text",
    tag: 'openai',
    auth: 'optional',
    scope: 'generate',
    body: CompletionRequest,
    response: Completion,
    events: Completion,
    error: OpenAIError,
  },
  openaiModels: {
    method: 'GET',
    path: '/v1/models',
    summary: 'The models of GET /models, and their checkpoints, as OpenAI lists models',
    tag: 'openai',
    auth: 'optional',
    scope: 'read',
    response: OpenAIModels,
    error: OpenAIError,
  },
  openaiModel: {
    method: 'GET',
    path: '/v1/models/:model',
    summary: 'One of them; its id may have slashes',
    tag: 'openai',
    auth: 'optional',
    scope: 'read',
    params: Type.Object({ model: Type.String({ description: 'e.g. fine-tuned/NAME@step-100' }) }),
    response: OpenAIModel,
    error: OpenAIError,
  },
} as const satisfies Record<string, Route>
export type RouteName = keyof typeof ROUTES
