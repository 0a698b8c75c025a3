# The braking distance of a car, by a line through the data that comes with R.
# POST /predict {"speed": 10} is answered with {"dist": 21.7}; GET /readyz with {}.

library(httpuv)
library(jsonlite)

model <- lm(dist ~ speed, cars)

answer <- function(status, value) {
  list(status = status, headers = list("Content-Type" = "application/json"), body = toJSON(value, auto_unbox = TRUE, digits = NA))
}

app <- list(call = function(request) {
  route <- paste(request$REQUEST_METHOD, request$PATH_INFO)
  if (route == "GET /readyz") {
    return(answer(200L, setNames(list(), character())))
  }
  if (route != "POST /predict") {
    return(answer(404L, list(detail = "there is nothing here")))
  }
  given <- tryCatch(fromJSON(rawToChar(request$rook.input$read())), error = function(error) NULL)
  if (!is.list(given) || !is.numeric(given$speed)) {
    return(answer(422L, list(detail = "`speed` is a number")))
  }
  answer(200L, list(dist = unname(predict(model, data.frame(speed = given$speed)))))
})

port <- as.integer(Sys.getenv("PORT", "3000"))
server <- startServer("0.0.0.0", port, app)
repeat service(1000)
