import hex.ModelCategory;
import hex.genmodel.GenModel;
import hex.genmodel.MojoModel;
import hex.genmodel.easy.EasyPredictModelWrapper;
import hex.genmodel.easy.RowData;
import hex.genmodel.easy.exception.PredictException;
import hex.genmodel.easy.prediction.*;

/** A model of h2o's: what it takes, and its answers. Threads may ask it at once. */
final class Model {
    final String[] columns;
    /** The words of each column; none for one of numbers. */
    final String[][] words;
    private final GenModel model;
    private final ModelCategory category;
    private final String[] labels;
    private final ThreadLocal<EasyPredictModelWrapper> wrapper;

    /** A MOJO by its file, or, with what loads it, a POJO by its class. */
    Model(ClassLoader pojo, String name) throws Exception {
        model = pojo == null ? MojoModel.load(name) : (GenModel) pojo.loadClass(name).getDeclaredConstructor().newInstance();
        category = model.getModelCategory();
        String[] original = model.getOrigNames();
        String[] names = original == null ? model.getNames() : original;
        String[][] domains = original == null ? model.getDomainValues() : model.getOrigDomainValues();
        int count = original == null ? model.nfeatures() : model.getOrigNumCols();
        columns = new String[count];
        words = new String[count][];
        System.arraycopy(names, 0, columns, 0, count);
        System.arraycopy(domains, 0, words, 0, count);
        labels = model.isSupervised() ? model.getDomainValues(model.getResponseIdx()) : null;
        wrapper = ThreadLocal.withInitial(this::own);
        wrapper.get();
    }

    /** One for a thread: some models keep what they compute with between two steps. */
    @SuppressWarnings("deprecation")
    private EasyPredictModelWrapper own() {
        return new EasyPredictModelWrapper(new EasyPredictModelWrapper.Config().setModel(model.internal_threadSafeInstance()));
    }

    String category() {
        return category.toString();
    }

    void predict(RowData row, Json json) throws PredictException {
        EasyPredictModelWrapper wrapper = this.wrapper.get();
        switch (category) {
            case Binomial: {
                BinomialModelPrediction found = wrapper.predictBinomial(row);
                labelled(found.label, found.classProbabilities, json);
                return;
            }
            case Multinomial: {
                MultinomialModelPrediction found = wrapper.predictMultinomial(row);
                labelled(found.label, found.classProbabilities, json);
                return;
            }
            case Ordinal: {
                OrdinalModelPrediction found = wrapper.predictOrdinal(row);
                labelled(found.label, found.classProbabilities, json);
                return;
            }
            case Regression:
                json.raw("{\"value\":").number(wrapper.predictRegression(row).value).raw("}");
                return;
            case CoxPH:
                json.raw("{\"value\":").number(wrapper.predictCoxPH(row).value).raw("}");
                return;
            case Clustering:
                json.raw("{\"cluster\":").raw(wrapper.predictClustering(row).cluster).raw("}");
                return;
            case DimReduction:
                json.raw("{\"dimensions\":").numbers(wrapper.predictDimReduction(row).dimensions).raw("}");
                return;
            case AutoEncoder:
                json.raw("{\"error\":").number(wrapper.predictAutoEncoder(row).mse).raw("}");
                return;
            case AnomalyDetection: {
                AnomalyDetectionPrediction found = wrapper.predictAnomalyDetection(row);
                json.raw("{\"score\":").number(found.score).raw(",\"normalized\":").number(found.normalizedScore);
                if (found.isAnomaly != null) {
                    json.raw(",\"anomaly\":").raw(found.isAnomaly.toString());
                }
                json.raw("}");
                return;
            }
            default:
                throw new IllegalArgumentException("models of the kind " + category + " are not served");
        }
    }

    private void labelled(String label, double[] probabilities, Json json) {
        json.raw("{\"label\":").text(label).raw(",\"probabilities\":{");
        for (int at = 0; at < probabilities.length; at++) {
            json.raw(at == 0 ? "" : ",").text(labels[at]).raw(":").number(probabilities[at]);
        }
        json.raw("}}");
    }
}
