/** What callers send: the contract's requests, in which every field that has a default may be left out. */
import type {
  CleanRequest,
  CloneRequest,
  CompareRequest,
  CreateKeyRequest,
  DatasetParams,
  DatasetsQuery,
  EstimateRequest,
  EvaluateRequest,
  EvaluationsQuery,
  GenerateRequest,
  HistoryQuery,
  LoraParams,
  PreviewRequest,
  PriorityRequest,
  RowsQuery,
  SplitRequest,
  StartRequest,
  UploadQuery,
  ValidateRequest,
} from '@mlx-training/contract'

/** The fields that have no default. A test holds these lists to the schemas. */
export const NEEDED = {
  StartRequest: ['experiment_name', 'model_name', 'dataset'],
  EstimateRequest: ['model_name', 'dataset'],
  LoraParams: [],
  DatasetParams: ['dataset_path'],
  CloneRequest: ['experiment_name'],
  PriorityRequest: ['priority'],
  HistoryQuery: [],
  ValidateRequest: ['file_path'],
  PreviewRequest: ['file_path', 'model_name', 'samples'],
  UploadQuery: [],
  DatasetsQuery: [],
  RowsQuery: [],
  SplitRequest: ['validation_share'],
  CleanRequest: ['repairs'],
  GenerateRequest: [],
  CompareRequest: ['models'],
  EvaluateRequest: ['models', 'dataset'],
  EvaluationsQuery: [],
  CreateKeyRequest: ['name', 'scopes'],
} as const
type Needed = typeof NEEDED

type Sent<T, K extends readonly (keyof T)[]> = Pick<T, K[number]> & Partial<Omit<T, K[number]>>
type Nested = {
  lora?: Sent<LoraParams, Needed['LoraParams']>
  dataset: Sent<DatasetParams, Needed['DatasetParams']>
}

export type StartInput = Omit<Sent<StartRequest, Needed['StartRequest']>, keyof Nested> & Nested
export type EstimateInput = Omit<Sent<EstimateRequest, Needed['EstimateRequest']>, keyof Nested> & Nested
/** `changes`: fields of a start, merged as RFC 7396 has it (null takes a field out). */
export type CloneInput = Sent<CloneRequest, Needed['CloneRequest']>
export type PriorityInput = PriorityRequest
export type HistoryInput = Sent<HistoryQuery, Needed['HistoryQuery']>
export type ValidateInput = Sent<ValidateRequest, Needed['ValidateRequest']>
export type PreviewInput = Sent<PreviewRequest, Needed['PreviewRequest']>
/** The two maps as objects; they are sent as JSON. */
export type UploadInput = Omit<Sent<UploadQuery, Needed['UploadQuery']>, 'columns' | 'tags'> &
  Pick<ValidateRequest, 'columns' | 'tags'>
export type DatasetsInput = Sent<DatasetsQuery, Needed['DatasetsQuery']>
export type RowsInput = Sent<RowsQuery, Needed['RowsQuery']>
export type SplitInput = Sent<SplitRequest, Needed['SplitRequest']>
export type CleanInput = Sent<CleanRequest, Needed['CleanRequest']>
/** Without `stream`, which is another method here. */
export type GenerateInput = Omit<Sent<GenerateRequest, Needed['GenerateRequest']>, 'stream'>
/** Without `stream`: all answers at once. */
export type CompareInput = Omit<Sent<CompareRequest, Needed['CompareRequest']>, 'stream'>
export type EvaluateInput = Omit<Sent<EvaluateRequest, Needed['EvaluateRequest']>, 'dataset'> & {
  dataset: Pick<EvaluateRequest['dataset'], 'dataset_path'> & Partial<EvaluateRequest['dataset']>
}
export type EvaluationsInput = Sent<EvaluationsQuery, Needed['EvaluationsQuery']>
export type KeyInput = Sent<CreateKeyRequest, Needed['CreateKeyRequest']>
