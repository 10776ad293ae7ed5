/** Uploads that tell how far they are: fetch does not say what has been sent, XMLHttpRequest does. */
import { MlxTraining, type UploadResponse } from '@mlx-training/sdk'
import { heard, missed } from '../../live/connection.ts'
import { apiKey } from '../../session.ts'

export async function upload(
  file: File,
  onProgress: (share: number) => void,
  signal: AbortSignal,
): Promise<UploadResponse> {
  const client = new MlxTraining({
    baseURL: window.location.origin,
    apiKey: apiKey.peek() ?? '',
    fetch: (input, init) => send(String(input), init ?? {}, onProgress),
  })
  // Parts of folders are no part of a name.
  return await client.datasets.upload(file, { name: file.name.split(/[/\\]/).pop() ?? file.name }, { signal })
}

/** As much of fetch as the SDK asks for with an upload. */
function send(url: string, init: RequestInit, onProgress: (share: number) => void): Promise<Response> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open(init.method ?? 'POST', url)
    new Headers(init.headers).forEach((value, name) => {
      request.setRequestHeader(name, value)
    })
    request.upload.onprogress = ({ loaded, total }) => onProgress(total > 0 ? loaded / total : 0)
    request.upload.onload = () => onProgress(1)
    request.onload = () => {
      heard()
      resolve(new Response(request.responseText, { status: request.status, headers: headersOf(request) }))
    }
    request.onerror = () => {
      missed()
      reject(new TypeError('The connection broke off'))
    }
    request.onabort = () => reject(init.signal?.reason ?? new DOMException('Aborted', 'AbortError'))
    init.signal?.addEventListener('abort', () => request.abort())
    request.send(init.body as XMLHttpRequestBodyInit)
  })
}

function headersOf(request: XMLHttpRequest): Headers {
  const headers = new Headers()
  for (const line of request.getAllResponseHeaders().trim().split(/\r?\n/)) {
    const at = line.indexOf(':')
    if (at > 0) headers.append(line.slice(0, at), line.slice(at + 1).trim())
  }
  return headers
}
