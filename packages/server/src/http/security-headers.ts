/** securityHeaders: helmet's headers, put together once; its middleware would do that again for every request. */
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import helmet from 'helmet'

const DIRECTIVES = {
  defaultSrc: ["'self'"],
  baseUri: ["'none'"],
  frameAncestors: ["'none'"],
  formAction: ["'self'"],
  objectSrc: ["'none'"],
}

/** Swagger UI brings its script and styles as files, but draws its icons from data URLs and sets style attributes. */
const DOCS_DIRECTIVES = {
  ...DIRECTIVES,
  imgSrc: ["'self'", 'data:'],
  styleSrc: ["'self'", "'unsafe-inline'"],
}

/** Of every answer, but for `docs`: of the pages of the API's documentation. */
export function securityHeaders({ docs = false } = {}): Record<string, string> {
  const request = new IncomingMessage(new Socket())
  const response = new ServerResponse(request)
  const options = {
    contentSecurityPolicy: { useDefaults: false, directives: docs ? DOCS_DIRECTIVES : DIRECTIVES },
    // Plain HTTP on a local port; whoever puts TLS before it sets this there.
    strictTransportSecurity: false,
  }
  helmet(options)(request, response, (error) => {
    if (error) throw error
  })
  return response.getHeaders() as Record<string, string>
}
