/** Ids of models have slashes, which some clients send as they are: of `/v1/models/fine-tuned/a` all is one parameter. */
export function oneParameter(url: string): string {
  const [, before, id, query = ''] = /^(\/v1\/models\/)([^?]+)(\?.*)?$/s.exec(url) ?? []
  return before && id ? `${before}${id.replaceAll('/', '%2F')}${query}` : url
}

const EMBEDDINGS =
  'There are no embeddings here: the models are causal ones, whose hidden states are no embedding that was trained to be ' +
  'compared. Serve an embedding model beside this service'
const ABSENT: Record<string, string> = {
  '/v1/embeddings': EMBEDDINGS,
  '/v1/responses': 'The Responses API is not served: use POST /v1/chat/completions',
}

/** Why a path of OpenAI's that clients may look for isn't there. */
export const whyAbsent = (path: string): string | undefined => ABSENT[path]
